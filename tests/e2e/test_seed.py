"""The seed's own command line, its chat room unmodified (seed_main.py is a byte-identical copy), TCP and WebSocket clients."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import unittest

from harness import HERE, Case, Client, Message, Server, free_port

ONLINE = re.compile(r"online </font>")
RELOADED = re.compile("main.py已完成重载")


class Seed(Case):
    def launch(self) -> tuple[Server, int]:
        shutil.copy(HERE / "seed_main.py", self.folder / "main.py")
        # What the script runs before a reload: brings the next version, if there is one.
        update = self.write(
            "update_code.sh", "#!/bin/sh\nif [ -e next.py ]; then mv next.py main.py; fi\n"
        )
        update.chmod(0o755)
        port = free_port()
        args = f"-gate gate@0 -broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://127.0.0.1:{port}"
        return self.start(*args.split(), "-python_path", "./", "-scene", "scene@0"), port

    async def enter(self, port: int, name: str, kind: str = "tcp") -> Client:
        """Logs in and reads what the script sends at enter, up to the list of names."""
        client = await self.client(port, name, kind)
        welcome = await self.expect(client, re.compile("测试单播接口!欢迎你!"), cmd=1)
        self.assertEqual(welcome.text, '<font color="#ff0000">测试单播接口!欢迎你!</font>')
        self.assertEqual(welcome.binary, kind == "tcp")
        await self.expect(client, re.compile(rf"\[{name} [-\d]+ [:\d]+\] online </font>"), cmd=1)
        await self.expect(client, '<font color="#ff0000">当前在线:</font>', cmd=1)
        await self.expect(client, lambda message: name in message.json(), cmd=1)
        return client

    async def names(self, client: Client, *names: str) -> None:
        """Waits for the list of exactly these names."""

        def fits(message: Message) -> bool:
            return message.text.startswith("[") and sorted(message.json()) == sorted(names)

        await self.expect(client, fits, cmd=1)

    async def test_three_tcp_clients_and_a_websocket(self) -> None:
        server, port = self.launch()
        server.wait_line(r"scene@0.*loading\.\.\.\.\.\.\.")
        alice = await self.enter(port, "alice")
        bob = await self.enter(port, "bob")
        await self.names(alice, "alice", "bob")
        carol = await self.enter(port, "阿丽")
        web = await self.enter(port, "web", "ws")
        everybody = [alice, bob, carol, web]
        for client in everybody:
            await client.send(1, ["你好 from one"])
            for other in everybody:
                await self.expect(
                    other, re.compile(r"^<font color=\"#008000\">\[.* .*\]:</font>你好 from one$")
                )
        await bob.close()
        for client in (alice, carol, web):
            await self.expect(client, re.compile(r"\[bob .*\] offline </font>"))
            await self.names(client, "alice", "阿丽", "web")
        server.wait_line("process_chat session_id=阿丽 content=你好 from one")
        self.assertEqual(server.stop(), 0)
        self.clean(server)

    async def test_list_of_names_is_json_without_escapes(self) -> None:
        _, port = self.launch()
        client = await self.client(port, "阿丽")
        message = await self.expect(client, lambda m: m.text.startswith("["))
        self.assertEqual(message.text, '["阿丽"]')

    async def test_second_login_closes_the_first(self) -> None:
        _, port = self.launch()
        watcher = await self.enter(port, "watcher")
        first = await self.enter(port, "alice")
        web = await self.enter(port, "web", "ws")
        second = await self.enter(port, "alice")
        await self.expect_closed(first)
        await self.expect(watcher, re.compile(r"\[alice .*\] online"))
        await self.expect(watcher, re.compile(r"\[alice .*\] offline"))
        await self.expect(watcher, re.compile(r"\[alice .*\] online"))
        await self.names(watcher, "alice", "watcher", "web")
        await second.send(1, ["still here"])
        await self.expect(watcher, re.compile("still here"))
        await self.enter(port, "web", "ws")
        await self.expect_closed(web, 4001)

    async def reload(self, by: Client, code: str) -> Message:
        self.write("next.py", code)
        await by.send(1, ["reload"])
        return await self.expect(by, RELOADED, cmd=1)

    async def test_reload_changed_broken_and_half_failing(self) -> None:
        _, port = self.launch()
        alice, bob = await self.enter(port, "alice"), await self.enter(port, "bob", "ws")
        code = (HERE / "seed_main.py").read_text(encoding="utf-8")
        answer = await self.reload(
            alice, code.replace("</font>%s'%(session_id", "</font>NEW %s'%(session_id")
        )
        self.assertTrue(answer.text.endswith("已完成重载</font></b>"), answer.text)
        await bob.send(1, ["one"])
        await self.expect(bob, re.compile("</font>NEW one$"))

        answer = await self.reload(alice, "def broken(:\n")
        self.assertIn("SyntaxError", answer.text)
        self.assertIn("main.py", answer.text)
        await bob.send(1, ["two"])
        await self.expect(bob, re.compile("</font>NEW two$"))

        half = code.replace("</font>%s'%(session_id", "</font>HALF %s'%(session_id")
        half += "\n@ffext.session_call(2)\ndef other(session_id, msg):\n    pass\nraise RuntimeError('half way')\n"
        answer = await self.reload(alice, half)
        self.assertIn("half way", answer.text)
        await bob.send(1, ["three"])
        await self.expect(bob, re.compile("</font>NEW three$"))

        # The objects of singleton() have survived all of it: the list is whole.
        carol = await self.enter(port, "carol")
        await self.names(bob, "alice", "bob", "carol")
        answer = await self.reload(carol, code)
        await bob.send(1, ["four"])
        await self.expect(bob, re.compile(r"\]:</font>four$"))

    async def test_bad_bodies_hurt_nobody(self) -> None:
        server, port = self.launch()
        alice, bob = await self.enter(port, "alice"), await self.enter(port, "bob")
        for cmd, body in [
            (1, "no json"),
            (1, b"\xff\xfe"),
            (1, "[]"),
            (1, "5"),
            (1, ""),
            (9, "no handler"),
        ]:
            await alice.send(cmd, body)
        await alice.send(1, ["fine"])
        await self.expect(bob, re.compile("</font>fine$"))
        server.wait_line("IndexError")

    async def test_sigterm_drains_and_exits_0(self) -> None:
        server, port = self.launch()
        alice, web = await self.enter(port, "alice"), await self.enter(port, "web", "ws")
        self.assertEqual(await asyncio.to_thread(server.stop, 10, signal.SIGTERM), 0, server.output)
        await self.expect_closed(alice)
        await self.expect_closed(web, 1001)
        self.clean(server)


if __name__ == "__main__":
    unittest.main()
