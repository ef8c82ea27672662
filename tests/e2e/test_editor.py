"""The chat demo, its graph as it is shipped but for the port, and the editor's HTTP interface (net/PROTOCOL.md, section 8)."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import unittest
import urllib.parse

from harness import ROOT, Case, Client, Server, free_port


class Chat(Case):
    def launch(self, *, editor: str | None = None) -> tuple[Server, int, str]:
        """A copy of conf/chat on a free port; returns the editor's token too."""
        shutil.copytree(ROOT / "conf" / "chat", self.folder / "chat")
        port = free_port()
        graph = self.folder / "chat" / "chat.yaml"
        text = graph.read_text(encoding="utf-8").replace("127.0.0.1:10242", f"127.0.0.1:{port}")
        self.assertIn(str(port), text)
        if editor is not None:
            text = re.sub(r"(?m)^    editor: \{.*$", editor, text)
        graph.write_text(text, encoding="utf-8")
        server = self.start(str(graph))
        found = re.search(rf"http://127\.0\.0\.1:{port}/#token=(\S+)", server.output)
        return server, port, found[1] if found else ""

    async def enter(self, port: int, name: str, kind: str = "tcp") -> Client:
        client = await self.client(port, name, kind)
        self.assertEqual((await self.expect(client, re.compile(""), cmd=0)).json(), {"name": name})
        await self.expect(client, re.compile(f"Welcome, {name}!"), cmd=3)
        return client

    @property
    def script(self) -> str:
        return (self.folder / "chat" / "main.py").read_text(encoding="utf-8")


class Room(Chat):
    async def test_talk(self) -> None:
        _, port, _ = self.launch()
        alice, bob = await self.enter(port, "alice"), await self.enter(port, "bob", "ws")
        await self.expect(alice, lambda m: m.cmd == 2 and m.json() == ["alice", "bob"])
        await alice.send(1, ["hello  "])
        line = (await self.expect(bob, re.compile(""), cmd=1)).json()
        self.assertEqual((line["from"], line["text"]), ("alice", "hello"))
        carol = await self.client(port, "carol")
        history = (await self.expect(carol, re.compile(""), cmd=4)).json()
        self.assertEqual([entry["text"] for entry in history], ["hello"])
        await alice.send(1, ["/roll 20"])
        await self.expect(bob, re.compile("alice rolls"), cmd=3)
        for junk in ("[]", "5", "null", '["/roll x"]', '[""]', "no json"):
            await alice.send(1, junk)
        await bob.close()
        await self.expect(alice, re.compile("bob has left"), cmd=3)
        await self.expect(alice, lambda m: m.cmd == 2 and m.json() == ["alice", "carol"])

    async def test_names_are_looked_at(self) -> None:
        _, port, _ = self.launch()
        for name in ("x" * 25, "   ", "a\x07b"):
            client = await self.client(port, name, "ws")
            (answer,) = await self.expect_closed(client, 4002)
            self.assertIn("error", json.loads(answer.text))

    async def test_the_page(self) -> None:
        _, port, _ = self.launch()
        for path in ("/", "/chat.css", "/chat.js", "/editor.js", "/rabbit.svg", "/redrabbit.js"):
            status, headers, body = await self.http(port, path)
            self.assertEqual(status, 200, path)
            self.assertTrue(body)
        if os.path.isdir("/usr/share/javascript/codemirror"):
            self.assertEqual((await self.http(port, "/codemirror/lib/codemirror.js"))[0], 200)


class Editor(Chat):
    async def ask(
        self,
        port: int,
        method: str,
        what: str,
        token: str,
        body: str | bytes | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        data = body.encode() if isinstance(body, str) else body
        path = f"/editor/{what}?token={urllib.parse.quote(token)}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http(port, path, method, data, names)

    async def test_read_save_reload(self) -> None:
        server, port, token = self.launch()
        self.assertGreaterEqual(len(token), 22, "128 bits")
        alice = await self.enter(port, "alice")
        status, headers, body = await self.ask(port, "GET", "script", token)
        self.assertEqual((status, body.decode()), (200, self.script))
        self.assertIn("text/x-python", headers["content-type"])
        self.assertEqual(headers["x-script-name"], "main.py")
        self.assertEqual(headers["cache-control"], "no-store")
        etag = headers["etag"]

        new = self.script.replace("    return text\n", "    return text.upper()\n")
        status, headers, _ = await self.ask(port, "PUT", "script", token, new, If_Match=etag)
        self.assertEqual(status, 204)
        self.assertNotEqual(headers["etag"], etag)
        self.assertEqual(self.script, new)
        await alice.send(1, ["not yet"])
        await self.expect(alice, re.compile('"not yet"'), cmd=1)
        status, headers, body = await self.ask(port, "POST", "reload", token, b"")
        self.assertEqual(status, 200)
        self.assertIn("application/json", headers["content-type"])
        self.assertEqual(json.loads(body), {"ok": True, "error": "", "version": 2})
        await alice.send(1, ["now"])
        await self.expect(alice, re.compile('"NOW"'), cmd=1)

        status, headers, _ = await self.ask(
            port, "PUT", "script", token, new + "\nboom(\n", If_Match="*"
        )
        self.assertEqual(status, 204)
        status, _, body = await self.ask(port, "POST", "reload", token, b"")
        answer = json.loads(body)
        self.assertEqual((status, answer["ok"], answer["version"]), (200, False, 2))
        self.assertRegex(answer["error"], r'File ".*main\.py", line \d+')
        self.assertIn("SyntaxError", answer["error"])
        await alice.send(1, ["still"])
        await self.expect(alice, re.compile('"STILL"'), cmd=1)

    async def test_saving_is_careful(self) -> None:
        _, port, token = self.launch()
        path = self.folder / "chat" / "main.py"
        path.chmod(0o640)
        before = self.script
        _, headers, _ = await self.ask(port, "GET", "script", token)
        etag = headers["etag"]
        for body, extra, status in [
            ("x = 1\n", {}, 428),
            ("x = 1\n", {"If_Match": '"other"'}, 412),
            (b"x = '\xff'\n", {"If_Match": etag}, 422),
            (b"x = '\0'\n", {"If_Match": etag}, 422),
            (b"#" * (1 << 20) + b"\n", {"If_Match": etag}, 413),
        ]:
            got = await self.ask(port, "PUT", "script", token, body, **extra)
            self.assertEqual(got[0], status, (body[:20], extra))
            self.assertEqual(self.script, before)
        got = await self.ask(port, "PUT", "script", token, before + "# ä\n", If_Match=etag)
        self.assertEqual(got[0], 204)
        self.assertEqual(self.script, before + "# ä\n")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
        self.assertEqual(
            (await self.ask(port, "PUT", "script", token, "x\n", If_Match=etag))[0], 412
        )
        left = sorted(file.name for file in path.parent.iterdir() if file.name != "__pycache__")
        self.assertEqual(left, ["README.md", "chat.yaml", "main.py", "www"])

    async def test_the_token(self) -> None:
        _, port, token = self.launch()
        for bad in (
            "",
            "x",
            token[:-1],
            token + "x",
            token.swapcase() if token.swapcase() != token else "y",
        ):
            for method, what in (("GET", "script"), ("PUT", "script"), ("POST", "reload")):
                data = b"" if method != "GET" else None
                status, _, body = await self.ask(port, method, what, bad, data)
                other, _, _ = await self.ask(port, method, "nothing", bad, data)
                self.assertEqual(status, other, "as if it were not there")
                self.assertIn(status, (404, 405), (method, what, bad))
                self.assertNotIn(b"ffext", body)
        self.assertEqual((await self.http(port, "/editor/script"))[0], 404)
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
            status, _, _ = await self.ask(port, "GET", "script", token, None, Host=host)
            self.assertEqual(status, 404, host)
        status, _, _ = await self.ask(port, "GET", "script", token, None, Host=f"localhost:{port}")
        self.assertEqual(status, 200)
        self.assertEqual((await self.ask(port, "DELETE", "script", token))[0], 405)
        self.assertEqual((await self.ask(port, "GET", "reload", token))[0], 405)
        status, headers, _ = await self.ask(port, "GET", "script", token)
        self.assertNotIn("access-control-allow-origin", headers)

    async def test_off_unless_the_graph_says_so(self) -> None:
        server, port, token = self.launch(editor="")
        self.assertEqual(token, "")
        self.assertEqual((await self.ask(port, "GET", "script", ""))[0], 404)
        server, port, _ = self.launch_again("    editor: { scene: scene@0, token: fixed-token }")
        self.assertEqual((await self.ask(port, "GET", "script", "fixed-token"))[0], 200)

    def launch_again(self, editor: str) -> tuple[Server, int, str]:
        shutil.rmtree(self.folder / "chat")
        return self.launch(editor=editor)


if __name__ == "__main__":
    unittest.main()
