"""The command line: usage, mistakes (one clear line that says what, where and how to mend it), options files, commands."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import socket
import sys
import unittest

from harness import BINARY, PATIENT, READY, ROOT, SLOW, Case, Result, Server, free_port, run

SCRIPT = "import ffext\n@ffext.session_call(1, 'raw')\ndef e(s, b):\n    ffext.send_msg_session(s, 1, b)\n"


class Mistakes(Case):
    def graph(self, port: int = 0) -> str:
        return f"actors:\n  gate@0: {{ role: gate, listen: 'tcp://127.0.0.1:{port or free_port()}' }}\n  scene@0: {{ role: scene, script: ok.py }}\n"

    def go(self, *args: str) -> Result:
        result = run(*args, cwd=self.folder)
        self.assertNotIn(READY, result.out)
        return result

    def wrong(self, *args: str, words: list[str]) -> None:
        """One line with these words, on standard error; status > 0."""
        result = self.go(*args)
        self.assertGreater(result.status, 0, f"{args}: {result}")
        lines = [line for line in result.err.splitlines() if line.strip()]
        self.assertEqual(len(lines), 1, f"{args}: {result}")
        for word in words:
            self.assertIn(word, lines[0], f"{args}: {result}")

    def test_no_arguments(self) -> None:
        result = self.go()
        self.assertEqual(result.status, 0)
        for word in ("-gate", "-broker", "-scene", "check", "graph", "new", ".yaml"):
            self.assertIn(word, result.out)

    def test_a_commands_help(self) -> None:
        """Its own: each option that the general text names, and an example."""
        options = {
            "check": ["--options"],
            "graph": ["--svg"],
            "new": ["mygame"],
            "up": ["NODE", "-log_level"],
            "ps": ["--broker", "--group", "--cluster_key", "--timeout", "--json"],
            "drain": ["--broker", "--group", "--cluster_key", "--timeout"],
        }
        texts = set()
        for word, names in options.items():
            for args in ([word, "-h"], [word, "--help"], [word, "some.yaml", "--help"], ["help", word]):
                result = self.go(*args)
                self.assertEqual(result.status, 0, result)
                self.assertTrue(result.out.startswith(f"redrabbit {word} "), result.out)
                self.assertIn(f"\n  redrabbit {word} ", result.out)
                for name in names:
                    self.assertIn(name, result.out)
                self.assertEqual(result.err, "")
                texts.add(result.out)
        self.assertEqual(len(texts), len(options))
        self.assertIn("redrabbit COMMAND --help", self.go("--help").out)

    def test_help_of_running_a_graph(self) -> None:
        self.write("some.yaml", self.graph())
        texts = set()
        for args in (["some.yaml", "--help"], ["some.yaml", "-h"], ["some.yaml", "--node", "a", "-h"], ["help", "some.yaml"]):
            result = self.go(*args)
            self.assertEqual((result.status, result.err), (0, ""), result)
            texts.add(result.out)
        (text,) = texts
        for word in ("redrabbit GRAPH.yaml ", "--node", "--watch", "-d ", "-f FILE", "\n  redrabbit world.yaml "):
            self.assertIn(word, text)
        self.assertEqual(self.go("-broker", "tcp://127.0.0.1:1", "-h").out, self.go("--help").out)

    def test_words_that_are_no_commands(self) -> None:
        for args in (["help", "nosuch"], ["--help", "nosuch"], ["nosuch", "--help"]):
            self.wrong(*args, words=["nosuch", "up, ps, drain, check, graph, new"])
            self.assertEqual(self.go(*args).out, "")

    def test_up_takes_bare_names(self) -> None:
        self.write("some.yaml", self.graph())
        self.wrong("up", "some.yaml", "--node", "lobby", words=["redrabbit up some.yaml lobby"])
        self.wrong("up", "some.yaml", "-d", "--node", words=["redrabbit up some.yaml NODE"])

    def test_options(self) -> None:
        self.write("main.py", SCRIPT)
        good = f"-gate gate@0 -broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://127.0.0.1:{free_port()} -scene scene@0".split()
        self.wrong(*good, "-gate_lisen", "x", words=["-gate_lisen", "-gate_listen"])
        self.wrong(*good, "-nonsense", words=["-nonsense"])
        self.wrong(*good, "-heartbeat_timeout", words=["-heartbeat_timeout"])
        self.wrong(*good, "-heartbeat_timeout", "soon", words=["-heartbeat_timeout", "soon"])
        self.wrong(*good, "-max_packet_size", "-5", words=["-max_packet_size", "-5"])
        self.wrong(*good, "-log_level", "9", words=["-log_level", "9"])
        self.wrong(*good, "-f", "missing.conf", words=["missing.conf"])
        self.wrong("chek", "chat.yaml", words=["chek", "check"])
        self.wrong("drain", "", "chat.yaml", words=["drain: a word is empty"])

    def test_addresses(self) -> None:
        self.write("main.py", SCRIPT)
        for address in (
            "127.0.0.1:80",
            "tcp://",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:99999",
            "tcp://127.0.0.1:x",
            "udp://127.0.0.1:5",
            "tcp://[::1:5",
        ):
            self.wrong(
                "-gate", "gate@0", "-broker", f"tcp://127.0.0.1:{free_port()}", "-gate_listen", address,
                "-python_path", "./", "-scene", "scene@0", words=[address, "-gate_listen"],
            )  # fmt: skip

    def test_a_port_in_use(self) -> None:
        self.write("main.py", SCRIPT)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", free_port()))
            taken.listen()
            port = str(taken.getsockname()[1])
            self.wrong(
                "-gate", "gate@0", "-broker", f"tcp://127.0.0.1:{free_port()}", "-gate_listen", f"tcp://127.0.0.1:{port}",
                "-python_path", "./", "-scene", "scene@0", words=[port, "in use"],
            )  # fmt: skip
            self.wrong(
                "-gate", "gate@0", "-broker", f"tcp://127.0.0.1:{port}", "-gate_listen", f"tcp://127.0.0.1:{free_port()}",
                "-python_path", "./", "-scene", "scene@0", words=[port, "-broker", "-master_broker"],
            )  # fmt: skip

    def test_names(self) -> None:
        self.write("main.py", SCRIPT)
        base = f"-broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://127.0.0.1:{free_port()} -python_path ./".split()
        self.wrong("-gate", "x@0", "-scene", "x@0", *base, words=["x@0"])
        self.wrong("-gate", "gate 0", "-scene", "scene@0", *base, words=["gate 0"])

    def test_files(self) -> None:
        self.wrong("missing.yaml", words=["missing.yaml"])
        self.write("bad.yaml", "actors: [unclosed\n")
        self.wrong("bad.yaml", words=["bad.yaml:"])
        self.write("role.yaml", "actors:\n  a@0: { role: sceen, script: x.py }\n")
        self.wrong("role.yaml", words=["role.yaml:2:", "sceen", "scene"])
        self.write("key.yaml", "actors:\n  scene@0: { role: scene, scirpt: x.py }\n")
        result = self.go("key.yaml")
        self.assertGreater(result.status, 0)
        self.assertRegex(result.err, r"key\.yaml:2:\d+: .*scirpt.*script")
        self.write("ok.py", SCRIPT)
        self.write("twice.yaml", self.graph() + "  gate@0: { role: scene, script: ok.py }\n")
        result = self.go("twice.yaml")
        self.assertGreater(result.status, 0)
        self.assertRegex(result.err, r"twice\.yaml:4:\d+: .*gate@0")
        self.write("script.yaml", self.graph().replace("ok.py", "missing.py"))
        self.wrong("script.yaml", words=["script.yaml:3:", "missing.py"])
        self.wrong("-gate", "gate@0", "-broker", f"tcp://127.0.0.1:{free_port()}", "-gate_listen",
                   f"tcp://127.0.0.1:{free_port()}", "-python_path", "./", "-scene", "scene@0", words=["main.py"])  # fmt: skip
        self.wrong("nonsense", words=["nonsense"])
        self.wrong("ok.yaml", "--node", words=["--node"])
        self.write("nul.py", "x = 1\0\n")
        self.write("nul.yaml", self.graph().replace("ok.py", "nul.py"))
        result = self.go("nul.yaml")
        self.assertGreater(result.status, 0)
        self.assertRegex(result.err, r"scene@0.*nul\.py:1: SyntaxError: a null byte")

    def test_folders_that_cannot_be_written(self) -> None:
        self.write("main.py", SCRIPT)
        self.write("file", "")
        for option, folder in (("-log_path", "/proc/x"), ("-log_path", "file/x"), ("-perf_path", "/proc/x"),
                               ("-perf_path", "file")):  # fmt: skip
            self.wrong("-broker", f"tcp://127.0.0.1:{free_port()}", "-python_path", "./", "-scene", "scene@0",
                       option, folder, words=[folder, "path"])  # fmt: skip

    def test_a_missing_virtual_environment(self) -> None:
        self.write("ok.py", SCRIPT)
        self.write("graph.yaml", "venv: nowhere\n" + self.graph())
        result = self.go("graph.yaml")
        self.assertGreater(result.status, 0)
        self.assertIn("nowhere", result.err)


class OptionsFile(Case):
    async def serve(self, server: Server, port: int) -> None:
        client = await self.client(port, "me")
        await client.send(1, b"x")
        await self.expect(client, "x")

    async def test_f_with_comments_and_a_bom(self) -> None:
        self.write("main.py", SCRIPT)
        port = free_port()
        self.write(
            "default.conf",
            f"\ufeff# the chat server\n-gate gate@0 -broker tcp://127.0.0.1:{free_port()}\n\n"
            f"-gate_listen tcp://127.0.0.1:1   # replaced by the command line\n-python_path ./ -scene scene@0\n",
        )
        server = self.start("-f", "default.conf", "-gate_listen", f"tcp://127.0.0.1:{port}")
        await self.serve(server, port)

    async def test_any_interface_and_ipv6(self) -> None:
        self.write("main.py", SCRIPT)
        port, six = free_port(), free_port(socket.AF_INET6)
        server = self.start(
            *f"-gate gate@0 -broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://*:{port} -python_path ./ -scene scene@0".split()
        )
        await self.serve(server, port)
        server = self.start(
            *f"-gate gate@0 -broker tcp://[::1]:{free_port(socket.AF_INET6)} -gate_listen tcp://[::1]:{six} -python_path ./ -scene scene@0".split()
        )
        async with self.raw(six, "::1"):
            pass

    async def test_app_redrabbit(self) -> None:
        other = BINARY.with_name("app_redrabbit")
        self.assertTrue(other.exists(), other)

    async def test_two_ports_of_one_start(self) -> None:
        """A restart binds at once although the last run's connections are in TIME_WAIT."""
        self.write("main.py", SCRIPT)
        port, broker = free_port(), free_port()
        for _ in range(3):
            server = self.start(
                *f"-gate gate@0 -broker tcp://127.0.0.1:{broker} -gate_listen tcp://127.0.0.1:{port} -python_path ./ -scene scene@0".split()
            )
            await self.serve(server, port)
            self.assertEqual(server.stop(), 0)

    async def test_log_files(self) -> None:
        self.write("main.py", SCRIPT + "ffext.INFO('a line for the file')\n")
        port = free_port()
        server = self.start(
            *f"-gate gate@0 -broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://127.0.0.1:{port} -python_path ./ -scene scene@0".split(),
            *"-log_path logs -log_filename game -log_print_file true -log_print_screen false -log_level 5".split(),
        )
        await self.serve(server, port)
        self.assertEqual(server.stop(), 0)
        files = list((self.folder / "logs").rglob("game*"))
        self.assertTrue(files)
        self.assertIn(
            "a line for the file", "".join(file.read_text() for file in files if file.is_file())
        )

    async def test_performance_report(self) -> None:
        self.write("main.py", SCRIPT)
        port = free_port()
        server = self.start(
            *f"-gate gate@0 -broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://127.0.0.1:{port} -python_path ./ -scene scene@0 -perf_path perf -perf_timeout 1".split()
        )
        await self.serve(server, port)
        await self.until(
            lambda: any(f.stat().st_size for f in (self.folder / "perf").glob("*"))
            if (self.folder / "perf").is_dir()
            else False,
            "a report",
            10,
        )

    async def test_daemon(self) -> None:
        self.write("main.py", SCRIPT + "import os\nopen('pid', 'w').write(str(os.getpid()))\n")
        port = free_port()
        result = await asyncio.to_thread(
            run, *f"-gate gate@0 -broker tcp://127.0.0.1:{free_port()} -gate_listen tcp://127.0.0.1:{port} -python_path ./ -scene scene@0 -d".split(), cwd=self.folder,
        )  # fmt: skip
        self.assertEqual(result.status, 0, result)
        await self.until(
            lambda: (self.folder / "pid").exists() and bool((self.folder / "pid").read_text()),
            "the daemon's script",
            20,
        )
        pid = int((self.folder / "pid").read_text())
        try:
            async with asyncio.timeout(PATIENT):
                while True:
                    try:
                        client = await self.client(port, "me")
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
            await client.send(1, b"x")
            await self.expect(client, "x")
        finally:
            os.kill(pid, 15)
        await self.until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the daemon's end", 20)


class Commands(Case):
    def test_check_and_graph(self) -> None:
        for file in ("conf/chat/chat.yaml", "conf/echo/echo.yaml"):
            result = run("check", str(ROOT / file))
            self.assertEqual(result.status, 0, result)
            result = run("graph", str(ROOT / file))
            self.assertEqual(result.status, 0, result)
            for name in ("gate@0", "scene@0", "broker@0"):
                self.assertIn(name, result.out)
        result = run(
            "graph", str(ROOT / "conf/chat/chat.yaml"), "--svg", str(self.folder / "graph.svg")
        )
        self.assertEqual(result.status, 0, result)
        self.assertIn("<svg", (self.folder / "graph.svg").read_text(encoding="utf-8"))
        self.write("bad.yaml", "actors:\n  a@0: { role: gate, listen: 'tcp://1.2.3.4:x' }\n")
        result = run("check", "bad.yaml", cwd=self.folder)
        self.assertGreater(result.status, 0)
        self.assertRegex(result.out + result.err, r"bad\.yaml:2:\d+: .*tcp://1\.2\.3\.4:x")

    async def test_new_makes_something_that_runs(self) -> None:
        result = run("new", "game", cwd=self.folder)
        self.assertEqual(result.status, 0, result)
        folder = self.folder / "game"
        graphs = list(folder.glob("*.yaml"))
        self.assertEqual(len(graphs), 1, list(folder.rglob("*")))
        self.assertTrue(list(folder.rglob("*.py")))
        self.assertTrue(list(folder.rglob("*.html")))
        self.assertTrue([f for f in folder.rglob("*test*")])
        text = graphs[0].read_text()
        match = re.search(r"tcp://[^:\s\"']+:(\d+)", text)
        assert match
        port = free_port()
        graphs[0].write_text(text.replace(match[1], str(port)))
        self.start(str(graphs[0]))
        status, _, body = await self.http(port, "/")
        self.assertEqual(status, 200)
        self.assertIn(b"<html", body.lower())
        own = await asyncio.create_subprocess_exec(
            sys.executable, "test_main.py", cwd=folder, env={**os.environ, "REDRABBIT": str(BINARY)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(own.communicate(), 60 * SLOW)
        self.assertEqual(own.returncode, 0, said.decode())
        again = run("new", "game", cwd=self.folder)
        self.assertGreater(again.status, 0)
        self.assertIn("game", again.err)


if __name__ == "__main__":
    unittest.main()
