"""Nodes as processes: what a wrong start says, `redrabbit up`, service managers, signals, and what conf/deploy holds."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import termios
import time
import unittest

from harness import BINARY, PATIENT, ROOT, SLOW, Case, Closed, Result, Server, free_port, run

# A machine with much else to do keeps a process waiting, which must not look like a fault.
LINKS = f"lease: {3 * SLOW:g}s, margin: 500ms, heartbeat: 100ms, suspect: {1.5 * SLOW:g}s, link_down: {2 * SLOW:g}s"
ENDLESS = "lease: 600s, suspect: 300s, link_down: 600s"  # nobody who is waited for comes in time
DEPLOY = ROOT / "conf" / "deploy"


class Nodes(Case):
    def graph(self, top: str = "", back: str = "", links: str = LINKS) -> str:
        self.front, self.back, self.gate = free_port(), free_port(), free_port()
        return f"""group: world
{top}
cluster: {{ {links} }}
nodes:
  front: {{ address: "tcp://127.0.0.1:{self.front}" }}
  back: {{ address: "{back or f"tcp://127.0.0.1:{self.back}"}" }}
actors:
  broker@0: {{ role: broker, node: front }}
  gate@0: {{ role: gate, node: front, listen: "tcp://127.0.0.1:{self.gate}" }}
  scene@0: {{ role: scene, node: back, logic: echo }}
"""

    def key(self, name: str, text: str) -> None:
        self.write(name, text).chmod(0o600)

    def go(self, *args: str, env: dict[str, str] | None = None) -> Result:
        return run(*args, cwd=self.folder, env={"XDG_STATE_HOME": str(self.folder / "state"), **(env or {})})


class Mistakes(Nodes):
    def wrong(self, *args: str, words: list[str]) -> None:
        result = self.go(*args)
        self.assertGreater(result.status, 0)
        for word in words:
            self.assertIn(word, result.err, f"{args}: {result}")

    def test_unknown_names(self) -> None:
        self.write("g.yaml", self.graph())
        self.wrong("g.yaml", "--node", "bakc", words=["did you mean 'back'", "front, back"])
        self.wrong("g.yaml", "--node", "zebra", words=["no node 'zebra'", "front, back"])
        self.wrong("up", "g.yaml", "zebra", words=["no node 'zebra'", "front, back"])
        self.wrong("up", "g.yaml", "--node=back", words=["redrabbit up g.yaml back"])
        self.write("typo.yaml", self.graph().replace("scene, node: back", "scene, node: bakc"))
        self.wrong("up", "typo.yaml", words=["typo.yaml:10:", "no node 'bakc'; did you mean 'back'?"])

    def test_asked_for_a_group_that_does_not_run(self) -> None:
        self.write("g.yaml", self.graph())
        for command in (["ps"], ["drain", "back"]):
            self.wrong(*command, "g.yaml", words=[f"127.0.0.1:{self.front}", "does the group run?", "--broker ADDRESS"])

    def test_a_port_in_use(self) -> None:
        self.write("g.yaml", self.graph())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", self.front))
            taken.listen()
            self.wrong("g.yaml", "--node", "front", words=[str(self.front), "node front", "`address`"])

    def test_no_key_beyond_loopback(self) -> None:
        self.write("g.yaml", self.graph(back="tcp://192.0.2.1:7001"))
        self.wrong("g.yaml", "--node", "back", words=["g.yaml:6:", "192.0.2.1", "cluster_key"])
        self.write("main.py", "")
        self.wrong("-broker", f"tcp://*:{free_port()}", words=["-broker", "not loopback", "-cluster_key"])

    def test_an_address_that_does_not_resolve(self) -> None:
        self.key("k", "0123456789abcdef")
        self.write("g.yaml", self.graph(top="cluster_key: k").replace("127.0.0.1:" + str(self.front), "nowhere.invalid:1"))
        self.wrong("g.yaml", "--node", "front", words=["nowhere.invalid"])

    def test_keys(self) -> None:
        self.write("g.yaml", self.graph(top="cluster_key: k"))
        self.wrong("g.yaml", "--node", "front", words=["key k: No such file", "openssl"])
        self.key("k", "short")
        self.wrong("g.yaml", "--node", "front", words=["5 bytes"])

    def joined(self, *args: str) -> tuple[Server, Result]:
        """A master, and how another process ends that wants to join it."""
        master = self.begin("g.yaml", "--node", "front")
        master.wait_line("its master")
        return master, self.go(*args)

    def test_a_wrong_key(self) -> None:
        self.key("k", "0123456789abcdef")
        self.key("other", "fedcba9876543210")
        self.write("g.yaml", self.graph(top="cluster_key: k"))
        _, result = self.joined("g.yaml", "--node", "back", "-cluster_key", "other")
        self.assertEqual(result.status, 1, result)
        self.assertIn("key", result.err)

    def test_a_wrong_group(self) -> None:
        self.write("g.yaml", self.graph())
        text = (self.folder / "g.yaml").read_text(encoding="utf-8")
        self.write("other.yaml", text.replace("group: world", "group: planet"))
        _, result = self.joined("other.yaml", "--node", "back")
        self.assertEqual(result.status, 1, result)
        self.assertIn("planet", result.err)
        self.assertIn("world", result.err)

    def test_a_tool_without_the_group(self) -> None:
        """Its user is told; the master's log is not for that."""
        self.write("g.yaml", self.graph())
        master = self.begin("g.yaml", "--node", "front")
        address = f"tcp://127.0.0.1:{self.front}"
        master.wait_line("its master; listens for nodes")
        result = self.go("ps", "--broker", address)
        self.assertEqual(result.status, 1, result)
        self.assertIn("the groups differ, 'default' and 'world'", result.err)
        self.assertIn("the group is taken to be 'default'; name another: --group NAME", result.err)
        self.assertEqual(self.go("ps", "--broker", address, "--group", "world").status, 0)
        self.assertEqual(master.stop(), 0)
        self.assertNotIn(" WARN ", master.output)

    def test_a_node_that_is_there_already(self) -> None:
        self.write("g.yaml", self.graph())
        self.begin("g.yaml", "--node", "back")
        master = self.begin("g.yaml", "--node", "front")
        master.ready()
        result = self.go("g.yaml", "--node", "back")
        self.assertEqual(result.status, 1, result)
        self.assertIn("back", result.err)

    def test_a_master_that_is_there_already(self) -> None:
        self.write("g.yaml", self.graph())
        self.begin("g.yaml", "--node", "front").wait_line("its master")
        self.assertIn(f"runs at tcp://127.0.0.1:{self.front} already", self.go("g.yaml", "--node", "front").err)
        address = f"tcp://127.0.0.1:{free_port()}"
        self.start("-broker", address)
        result = self.go("-broker", address)
        self.assertEqual(result.status, 1, result)
        self.assertIn(f"another broker runs at {address} already", result.err)
        self.assertIn(f"its own `-broker` and `-master_broker {address}`", result.err)

    def test_no_master(self) -> None:
        self.write("g.yaml", self.graph())
        result = self.go("g.yaml", "--node", "back", "-join_timeout", "1")
        self.assertEqual(result.status, 1, result)
        self.assertIn(f"127.0.0.1:{self.front}", result.err)

    def test_a_signal_while_it_waits_for_its_master(self) -> None:
        self.write("g.yaml", self.graph())
        server = self.begin("g.yaml", "--node", "back")
        server.wait_line("waiting for the master")
        self.assertEqual(server.stop(), 0)

    def test_a_signal_while_a_gate_waits_for_its_scene(self) -> None:
        self.write("g.yaml", self.graph())
        server = self.begin("g.yaml", "--node", "front")
        server.wait_line("its master")
        self.assertEqual(server.stop(5), 0)


class Up(Nodes):
    async def echo(self) -> None:
        client = await self.client(self.gate, "me")
        await client.send(7, b"x")
        await self.expect(client, "x", cmd=7)
        await client.close()

    def pid(self, server: Server, node: str, count: int = 1) -> int:
        line = server.wait_line(rf"node {node} started, process \d+", 30, count)
        return int(line.rpartition(" ")[2])

    async def test_all_start_and_all_stop(self) -> None:
        self.write("g.yaml", self.graph())
        server = self.start("up", "g.yaml")
        await self.echo()
        pids = [self.pid(server, node) for node in ("front", "back")]
        self.assertIn("front | redrabbit: ready", server.output)
        self.assertNotIn("\x1b", server.output)
        self.assertEqual(server.stop(number=signal.SIGINT), 0)
        for pid in pids:
            self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())

    async def test_the_end_of_all_alarms_nobody(self) -> None:
        """The scene's node ends before the gate's, which is the master's: its clients are told of a stop, and nothing is amiss."""
        self.write("g.yaml", self.graph(links="lease: 60s, suspect: 20s, link_down: 30s"))
        server = self.start("up", "g.yaml")
        clients = [await self.client(self.gate, f"c{number}", "ws") for number in range(5)]
        for client in clients:  # a login that comes behind its scene's end is refused
            await client.send(7, b"in")
            await self.expect(client, "in", cmd=7)
        server.stop(number=signal.SIGINT)
        server.wait_line(r"scene@0 was stopped; its clients, by scene_lost: 5 closed \(1001\)")
        for client in clients:
            await self.expect_closed(client, 1001)
        self.calm(server)

    def hangs(self) -> None:
        self.write("hang.py", """
import time, ffext

@ffext.session_verify_callback
def verify(key, *rest): return [key]

@ffext.session_enter_callback
def enter(session_id, *rest): ffext.send_msg_session(session_id, 7, "in")

def cleanup():
    print("CLEANUP")
    time.sleep(600)
""")
        self.write("g.yaml", self.graph(top="drain: 10s").replace("logic: echo", "script: hang.py"))

    async def test_a_scene_that_hangs_at_the_end(self) -> None:
        """The others do not wait for it for ever: clients are told goodbye, and all ends in time."""
        self.hangs()
        server = self.start("up", "g.yaml")
        client = await self.client(self.gate, "me", "ws")
        await self.expect(client, "in", cmd=7)
        server.process.send_signal(signal.SIGINT)
        await self.expect_closed(client, 1001, 20)
        self.assertEqual(await asyncio.to_thread(server.over, 60), 3)
        self.assertRegex(server.output, r"(?s)node front ended with status 0.*node back (ended with status 3|was killed)")

    def test_a_second_signal_ends_it_at_once(self) -> None:
        self.hangs()
        graph = (self.folder / "g.yaml").read_text(encoding="utf-8")
        self.write("g.yaml", graph.replace("drain: 10s", "drain: 600s"))
        server = self.start("up", "g.yaml")
        server.process.send_signal(signal.SIGINT)
        server.wait_line("CLEANUP", 20)
        time.sleep(1.1)  # before that it would be the first one, sent twice
        self.assertEqual(server.stop(20, signal.SIGINT), 3)
        server.wait_line("node front is killed")

    def killed_at_the_end(self, node: str) -> None:
        """Ctrl-C, and while the scene's last handler runs that node is killed. Leases, silences and the drain last ten minutes."""
        self.write("slow.py", """
import os, time

def cleanup():
    print("CLEANUP")
    end = time.monotonic() + 300
    while not os.path.exists("go") and time.monotonic() < end:
        time.sleep(0.01)
""")
        graph = self.graph(top="drain: 600s").replace(LINKS, ENDLESS)
        self.write("g.yaml", graph.replace("logic: echo", "script: slow.py"))
        server = self.start("up", "g.yaml")
        server.wait_line("gate@0: open")
        pid = self.pid(server, node)
        server.process.send_signal(signal.SIGINT)
        server.wait_line("CLEANUP")
        os.kill(pid, signal.SIGKILL)
        server.wait_line(f"node {node} was killed by signal 9: it did not end in order; the others do not wait for it")
        self.write("go", "")
        self.assertEqual(server.process.wait(120 * SLOW), 3, server.output)
        server.stop()
        other = "front" if node == "back" else "back"
        self.assertIn(f"node {other} ended with status 0", server.output)

    def test_a_scene_that_is_killed_at_the_end(self) -> None:
        self.killed_at_the_end("back")

    def test_a_master_that_is_killed_at_the_end(self) -> None:
        self.killed_at_the_end("front")

    async def test_its_tools_find_its_key(self) -> None:
        """ps, drain and a node that is started by hand need no more than the graph; others are kept out."""
        self.write("g.yaml", self.graph())
        env = {"TMPDIR": str(self.folder), "XDG_RUNTIME_DIR": ""}
        server = self.start("up", "g.yaml", env=env)
        result = self.go("ps", "g.yaml", env=env)
        self.assertEqual(result.status, 0, result)
        self.assertIn("scene@0", result.out)
        master = f"tcp://127.0.0.1:{self.front}"
        self.assertEqual(self.go("ps", "--broker", master, "--group", "world", env=env).status, 0)
        result = self.go("ps", "--broker", f"tcp://127.0.0.1:{self.back}", "--group", "world", env=env)
        self.assertEqual(result.status, 1, result)
        self.assertIn("is found without, if --broker is its master's address", result.err)
        self.assertEqual(self.go("drain", "back", "g.yaml", env=env).status, 0)
        back = self.begin("g.yaml", "--node", "back", env=env)
        back.wait_line("joins the group of a `redrabbit up` that runs here")
        back.ready()
        await self.until_echo()
        again = self.go("up", "g.yaml", env=env)
        self.assertEqual(again.status, 1, again)
        self.assertIn("another `redrabbit up` runs group world", again.err)
        self.key("other", "f" * 32)
        result = self.go("ps", "g.yaml", "--cluster_key", "other", env=env)
        self.assertEqual(result.status, 1, result)
        self.assertIn("the key in other is not the group's", result.err)
        self.assertEqual(back.stop(), 0)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(list(self.folder.glob("redrabbit-*/*")), [])

    def test_columns_of_ps(self) -> None:
        """Also where names are long, each entry begins under its title."""
        name = "backstage-of-the-northern-hemisphere"
        self.write("g.yaml", self.graph().replace("back:", f"{name}:").replace("node: back", f"node: {name}"))
        self.start("up", "g.yaml")
        nodes, actors, links = (block.splitlines() for block in self.go("ps", "g.yaml").out.split("\n\n"))
        for lines, title in ((nodes, "STATUS"), (nodes, "ADDRESS"), (actors, "NODE"), (actors, "EPOCH"), (links, "TO"), (links, "STATE")):
            at = re.search(rf"\b{title}\b", lines[0])
            assert at
            self.assertGreater(len(lines), 1)
            for line in lines[1:]:
                self.assertRegex(line[at.start() - 1 :], r"^ \S", "\n".join(lines))

    async def test_what_dies_is_started_again(self) -> None:
        self.write("g.yaml", self.graph())
        server = self.start("up", "g.yaml")
        os.kill(self.pid(server, "back"), signal.SIGKILL)
        server.wait_line("node back was killed by signal 9; it is started again in 1 s")
        self.pid(server, "back", 2)
        server.wait_line("back +[|] redrabbit: ready", 30, 2)
        server.wait_line("gate@0: open|scene@0 is gone")
        await self.until_echo()

    async def until_echo(self) -> None:
        """Logins are refused until the new scene has its name."""
        end = time.monotonic() + 2 * PATIENT
        while time.monotonic() < end:
            try:
                return await self.echo()
            except (OSError, Closed, AssertionError):
                await asyncio.sleep(0.1)
        self.fail("no login after the scene's restart")

    def test_two_that_are_killed_at_once(self) -> None:
        """The one that had not heard of the other yet is dead, too: neither its name nor its links are waited for."""
        self.write("g.yaml", self.graph(links=ENDLESS).replace("actors:", "  more: {}\nactors:") + "  scene@1: { role: scene, node: more, logic: echo }\n")
        server = self.start("up", "g.yaml")
        pids = [self.pid(server, node) for node in ("back", "more")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # what comes now stays unread
        os.kill(pids[0], signal.SIGKILL)
        server.wait_line("back +[|] redrabbit: ready", 60, 2)
        os.kill(pids[1], signal.SIGKILL)
        server.wait_line("more +[|] redrabbit: ready", 60, 2)
        self.assertEqual(server.stop(60), 0)

    async def test_all_are_killed_at_once(self) -> None:
        """The next master knows that nobody holds a name of the one before: it waits for no lease."""
        self.write("g.yaml", self.graph(links=ENDLESS))
        server = self.start("up", "g.yaml")
        pids = [self.pid(server, node) for node in ("back", "front")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for node in ("back", "front"):
            server.wait_line(f"{node} +[|] redrabbit: ready", 60, 2)
        await self.until_echo()
        self.assertEqual(server.stop(60), 0)

    def test_a_node_that_is_away_at_the_end(self) -> None:
        self.write("g.yaml", self.graph(links=ENDLESS))
        for node in ("front", "back"):
            server = self.start("up", "g.yaml")
            pid = self.pid(server, node)
            os.kill(pid, signal.SIGKILL)
            server.wait_line(f"node {node} was killed by signal 9; it is started again in 1 s")
            status = server.stop(60, signal.SIGINT)
            if f"node {node} is not started again: it did not end in order" in server.output:
                self.assertEqual(status, 3, server.output)
            else:  # the machine was that slow
                self.pid(server, node, 2)

    def test_a_master_that_dies_while_others_start(self) -> None:
        """It is known to be dead also where the table that names it has not come yet."""
        self.write("g.yaml", self.graph(top="drain: 600s", links=ENDLESS))
        server = self.begin("up", "g.yaml", status=1)
        server.wait_line("back +[|] redrabbit: joined|front +[|] redrabbit: ready", 60)
        os.kill(self.pid(server, "front"), signal.SIGKILL)
        server.wait_line("node front was killed by signal 9")
        server.process.send_signal(signal.SIGINT)
        self.assertIn(server.over(120), (0, 1, 3), server.output)

    def test_told_to_end_at_once(self) -> None:
        """Nodes that have not come to look at signals end as well as any other."""
        self.write("g.yaml", self.graph())
        for node in ("front", "back", "back"):
            server = self.begin("up", "g.yaml")
            server.wait_line(f"node {node} started")
            self.assertEqual(server.stop(60, signal.SIGINT), 0, server.output)

    def of_terminal(self, **options: object) -> subprocess.Popen[str]:
        self.write("g.yaml", self.graph())
        server = subprocess.Popen(
            [BINARY, "up", "g.yaml"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options  # type: ignore[call-overload]
        )
        assert server.stdout
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.kill)
        for line in server.stdout:
            if line.startswith("redrabbit: ready:"):
                break
        return server

    def test_who_reads_its_output_ends_before(self) -> None:
        """As `up … | tee log` and Ctrl-C do."""
        server = self.of_terminal(stdin=subprocess.DEVNULL)
        assert server.stdout
        server.stdout.close()
        server.send_signal(signal.SIGINT)
        self.assertEqual(server.wait(PATIENT), 0)
        self.nobody_is_left()

    def test_its_terminal_is_closed(self) -> None:
        ours, theirs = os.openpty()
        server = self.of_terminal(stdin=theirs, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(theirs)
        os.close(ours)
        assert server.stdout
        self.assertIn("redrabbit: stopping", server.stdout.read())
        self.assertEqual(server.wait(PATIENT), 0)
        self.nobody_is_left()

    def nobody_is_left(self) -> None:
        for port in (self.front, self.back, self.gate):
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)

    def test_nodes_stay_in_the_foreground(self) -> None:
        self.write("g.yaml", self.graph())
        result = self.go("up", "g.yaml", "-d", "true")
        self.assertEqual(result.status, 2, result)
        self.assertIn("do not go to the background", result.err)

    def test_a_node_that_does_not_start_ends_all(self) -> None:
        self.write("bad.py", "this is no python\n")
        self.write("g.yaml", self.graph().replace("logic: echo", "script: bad.py"))
        result = self.go("up", "g.yaml")
        self.assertEqual(result.status, 1, result)
        self.assertIn("SyntaxError", result.out)
        self.assertIn("node back ended with status 1 before it was ready: everything is stopped", result.out)

    def test_its_end_by_force_leaves_nobody(self) -> None:
        self.write("g.yaml", self.graph())
        env = {"TMPDIR": str(self.folder), "XDG_RUNTIME_DIR": ""}  # its key file stays behind
        server = Server(["up", "g.yaml"], self.folder, env)
        server.ready()
        pids = [self.pid(server, node) for node in ("front", "back")]
        server.kill()
        for pid in pids:
            waited = subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=PATIENT)
            self.assertEqual(waited.returncode, 0)


class Manager(Nodes):
    """The process as a service of Type=notify."""

    def manager(self) -> tuple[socket.socket, dict[str, str]]:
        path = str(self.folder / "notify")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(path)
        sock.settimeout(PATIENT)
        return sock, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}

    def test_ready_watchdog_stopping(self) -> None:
        sock, env = self.manager()
        self.write("g.yaml", f"actors:\n  g: {{ role: gate, listen: 'tcp://127.0.0.1:{free_port()}' }}\n"
                   "  scene@0: { role: scene, logic: echo }\n")  # fmt: skip
        server = self.start("g.yaml", env=env)
        self.assertEqual(sock.recv(100), b"READY=1")
        for _ in range(3):
            self.assertEqual(sock.recv(100), b"WATCHDOG=1")
        self.assertEqual(server.stop(), 0)
        while (text := sock.recv(100)) == b"WATCHDOG=1":
            pass
        self.assertTrue(text.startswith(b"STOPPING=1"), text)

    async def test_sighup_opens_the_log_anew(self) -> None:
        self.write("g.yaml", "actors:\n  scene@0: { role: scene, logic: echo }\n")
        (self.folder / "log").mkdir()
        server = self.start("g.yaml", "-log_path", "log", "-log_level", "debug")
        names = sorted((self.folder / "log").iterdir())
        self.assertTrue(names)
        names[0].rename(self.folder / "log" / "moved")
        server.process.send_signal(signal.SIGHUP)
        await self.until(names[0].exists, "a new log file")
        self.assertEqual(server.stop(), 0)


class Deploy(Case):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_the_unit(self) -> None:
        text = (DEPLOY / "redrabbit@.service").read_text(encoding="utf-8")
        self.assertIn("ExecStart=/usr/local/bin/redrabbit ", text)
        unit = self.folder / "redrabbit@front.service"
        unit.write_text(text.replace("/usr/local/bin/redrabbit", str(BINARY)), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
        for path in re.findall(r"^Documentation=file:/usr/local/share/redrabbit/(.*)$", text, re.M):
            self.assertTrue((ROOT / path).exists(), path)
        mine = [line for line in done.stderr.splitlines() if "redrabbit" in line]
        self.assertEqual((done.returncode, mine), (0, []), done.stderr)
        drain = 10  # seconds, the graph's default
        for key in ("TimeoutStopSec", "WatchdogSec"):
            match = re.search(rf"^{key}=(\d+)$", text, re.M)
            assert match
            self.assertGreater(int(match[1]), drain)
        self.assertRegex(text, r"(?m)^CPUWeight=\d+$", "without it the kernel's autogroups decide who has the CPU")

    def test_the_image(self) -> None:
        text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        steps = re.findall(r"^RUN (.*)$", text, re.M)
        self.assertTrue(steps)
        for step in steps:
            subprocess.run(["sh", "-n", "-c", step], check=True)
        build, _, last = text.rpartition("\nFROM ")
        dev = (ROOT / "dev").read_text(encoding="utf-8").partition("BUILD_PACKAGES=(")[2].partition(")")[0]
        packages = {name for name in dev.split() if name.endswith("-dev")} - {"libpython3-dev"}
        self.assertEqual(packages - set(build.split()), set(), "./dev installs them, the image does not")
        self.assertRegex(last, r"(?m)^USER redrabbit$")
        self.assertRegex(last, r"(?m)^STOPSIGNAL SIGTERM$")

    def test_the_graph_of_the_compose_file(self) -> None:
        compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
        nodes = re.findall(r'"--node", "(\w+)"', compose)
        self.assertEqual(sorted(nodes), ["center", "front", "lobby", "rooms"])
        result = run("check", str(DEPLOY / "world.yaml"))
        self.assertEqual(result.status, 0, result)


if __name__ == "__main__":
    unittest.main()
