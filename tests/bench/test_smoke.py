"""rr-bench runs, its integrity checks hold and find faults, and its JSON is whole. Figures are not judged here."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import servers  # noqa: E402
from ports import free_port  # noqa: E402

BENCH = os.environ.get("RR_BENCH", "build/rr-bench")
PROGRAM = os.environ.get("RR_BIN", "build/redrabbit")
SHORT = ["--duration", "100ms", "--warmup", "50ms", "--runs", "1"]
LONGER = ["--duration", "600ms", "--warmup", "50ms", "--runs", "1"]  # where a busy machine must have got something done
ACTORS = {
    "pingpong": ["--pairs", "10"],
    "counting": ["--producers", "3"],
    "ring": ["--actors", "50", "--tokens", "7"],
    "spawn": ["--count", "5000", "--outstanding", "100"],
    "tree": ["--leaves", "1000"],
    "fanout": ["--workers", "100"],
    "idle": ["--count", "2000"],
    "paced": ["--rate", "5000"],
    "closed": ["--clients", "8"],
}


def run(*args: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([BENCH, *args], capture_output=True, text=True, timeout=100)
    if ok and result.returncode != 0:
        raise AssertionError(
            f"{args} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
        )
    return result


def results(*args: str) -> list[dict]:
    document = json.loads(run(*args, "--json").stdout)
    assert document["rr_bench"] == 1 and document["machine"]["cpus"] >= 1, document
    for result in document["results"]:
        assert result["runs"] and all(r["ok"] for r in result["runs"]), result
    return document["results"]


class FloorServer:
    """rr-bench's own bare server on a free port."""

    def __init__(self, kind: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen([BENCH, "server", kind, f"tcp://127.0.0.1:{self.port}"])

    def __enter__(self) -> FloorServer:
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.01)
        self.__exit__()
        raise AssertionError("the floor server does not listen")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class BadServer(threading.Thread):
    """Echoes, but spoils one message: drops it, changes it, or sends it twice."""

    def __init__(self, how: str) -> None:
        super().__init__(daemon=True)
        self.how = how
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        data, count = b"", 0
        with connection, connection.makefile("rb") as stream:
            while header := stream.read(8):
                size, cmd, flag = struct.unpack("<IHH", header)
                body = stream.read(size)
                count += 1
                if count == 1:
                    continue  # the login
                data = header + body
                if count == 20:
                    data = {"drop": b"", "change": header + body[:-1] + b"?", "twice": data * 2}[
                        self.how
                    ]
                try:
                    connection.sendall(data)
                except OSError:
                    return


class Actors(unittest.TestCase):
    def test_every_workload(self) -> None:
        for workload, options in ACTORS.items():
            with self.subTest(workload):
                (result,) = results("actors", workload, *options, *SHORT)
                self.assertEqual(result["workload"], workload)
                numbers = [v for run in result["runs"] for v in run["metrics"].values()]
                self.assertTrue(any(v > 0 for v in numbers), result)

    def test_payload_sizes(self) -> None:
        for size in ("64", "4KiB", "1MiB"):
            with self.subTest(size):
                results("actors", "pingpong", "fanout", "--workers", "20", "--size", size, *SHORT)

    def test_lossless_under_either_policy(self) -> None:
        for policy in ("pause", "fail"):
            with self.subTest(policy):
                results("actors", "counting", "--policy", policy, *SHORT)

    def test_floor_share(self) -> None:
        (result,) = results("actors", "ring", "--floor", *SHORT)
        self.assertGreater(result["summary"]["messages"]["share_of_floor"], 0)

    def test_latencies_are_ordered(self) -> None:
        (result,) = results("actors", "paced", "--generator", "timer", "--rate", "2000", *LONGER)
        latency = result["runs"][0]["latency_ns"]["call"]
        self.assertGreater(latency["count"], 50)
        values = [latency[k] for k in ("p50", "p90", "p99", "p99.9", "max")]
        self.assertEqual(values, sorted(values))


class Cluster(unittest.TestCase):
    def test_between_two_nodes(self) -> None:
        for size in ("64", "4KiB"):
            for result in results(
                "cluster", "oneway", "call", "--size", size, "--outstanding", "8", "--floor", *LONGER
            ):
                with self.subTest(f"{result['workload']} {size}"):
                    metric = "messages" if result["workload"] == "oneway" else "calls"
                    self.assertGreater(result["summary"][metric]["share_of_floor"], 0)


def descendants(pid: int) -> list[int]:
    try:
        below = [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:  # it has ended
        return []
    return below + [other for child in below for other in descendants(child)]


def says(pid: int, fd: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""


class Results(unittest.TestCase):
    def test_what_is_logged_is_not_among_them(self) -> None:
        """A node that was held up says so, in a process of rr-bench's own."""
        for args, count in ((["actors", "idle", "--count", "2000"], 1), (["cluster", "oneway"], 2)):
            bench = subprocess.Popen([BENCH, *args, "--json", "--duration", "2s", "--runs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            apart = False
            while not apart and bench.poll() is None:
                below = descendants(bench.pid)
                apart = len(below) >= count and all(says(pid, 1) == says(pid, 2) != "" for pid in below)
                time.sleep(0.005)  # nothing tells of it
            out, _ = bench.communicate(timeout=100)
            self.assertTrue(apart, args)
            self.assertEqual(json.loads(out)["rr_bench"], 1)


class Gate(unittest.TestCase):
    def test_every_workload_on_both_wires(self) -> None:
        with FloorServer("epoll") as server:
            for wire in ("tcp", "ws"):
                to = ["--to", f"{wire}://127.0.0.1:{server.port}", "--mode", "20x4", *SHORT]
                for workload in ("echo", "broadcast", "connect", "idle", "chat"):
                    with self.subTest(wire=wire, workload=workload):
                        results("gate", workload, *to)
            results("gate", "echo", *to, "--binary", "--size", "70000")
            results("gate", "echo", *to, "--body", "json", "--rate", "2000")

    def test_rooms(self) -> None:
        with FloorServer("epoll") as server:
            for wire in ("tcp", "ws"):
                to = ["--to", f"{wire}://127.0.0.1:{server.port}", "--mode", "20x4", *LONGER]
                with self.subTest(wire=wire):
                    (result,) = results("gate", "rooms", *to, "--room", "8", "--login", "8-floor-{n}")
                    self.assertGreater(result["summary"]["deliveries"]["median"], 0)
                for ours, theirs, what in ((4, 8, "of another room"), (8, 4, "out of order|deliveries are missing")):
                    bad = run("gate", "rooms", *to, "--room", str(ours), "--login", f"{theirs}-floor-{{n}}", ok=False)
                    self.assertEqual(bad.returncode, 1, bad.stdout)
                    self.assertRegex(bad.stdout + bad.stderr, rf"({what}).*RR_BENCH_ROOM={ours}")

    def test_a_server_of_its_own_has_the_rooms_of_the_run(self) -> None:
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            script = pathlib.Path("bench/scenes/lists.py").absolute()
            graph = pathlib.Path(folder, "lists.yaml")
            graph.write_text(
                f"actors:\n  broker@0: {{ role: broker }}\n  scene@0: {{ role: scene, script: '{script}' }}\n"
                f"  gate@0: {{ role: gate, listen: 'tcp://127.0.0.1:{port}', login: scene@0 }}\n"
            )
            (result,) = results(
                "gate", "rooms", "--room", "7", "--mode", "20x4", "--to", f"tcp://127.0.0.1:{port}",
                "--server", f"exec {PROGRAM} {graph}", *LONGER,
            )  # fmt: skip
        self.assertGreater(result["summary"]["deliveries"]["median"], 0)

    def test_a_server_that_is_not_there(self) -> None:
        for wire in ("tcp", "ws"):
            to = f"{wire}://127.0.0.1:{free_port()}"
            for workload in ("echo", "connect"):
                with self.subTest(wire=wire, workload=workload):
                    bad = run("gate", workload, "--to", to, *SHORT, ok=False)
                    self.assertEqual(bad.returncode, 1, bad.stdout)
                    self.assertIn(f"the server at {to} cannot be reached: Connection refused", bad.stderr)
                    self.assertNotIn("integrity", bad.stdout + bad.stderr)

    def test_floor_beside_the_target(self) -> None:
        with FloorServer("libuv") as server:
            (result,) = results(
                "gate", "echo", "--to", f"tcp://127.0.0.1:{server.port}", "--floor", *SHORT
            )
            self.assertIn(result["floor"]["name"], ("epoll-tcp", "libuv-tcp"))

    def test_scenario(self) -> None:
        text = "think 5ms..20ms\nmaybe 50%\nsend 1 hello {n} {i}\nsend 1 bye {n}\nexpect 1 containing bye {n}\n"
        with FloorServer("epoll") as server, tempfile.NamedTemporaryFile(
            "w", suffix=".scenario"
        ) as f:
            f.write(text)
            f.flush()
            to = ["--to", f"tcp://127.0.0.1:{server.port}", "--connections", "10"]
            bad = run("gate", "chat", *to, "--scenario", f.name, *LONGER, ok=False)
            self.assertEqual(bad.returncode, 1)  # the first answer is to "hello" half of the time
            f.seek(0)
            f.truncate()
            f.write("think 5ms\nsend 1 hello {n} {i}\nexpect 1 containing hello {n}\n")
            f.flush()
            (result,) = results("gate", "chat", *to, "--scenario", f.name, *LONGER)
            self.assertGreater(result["runs"][0]["latency_ns"]["answer"]["count"], 10)

    def test_faults_are_found(self) -> None:
        for how in ("drop", "change", "twice"):
            with self.subTest(how):
                server = BadServer(how)
                to = ["--to", f"tcp://127.0.0.1:{server.port}", "--mode", "1x4", *LONGER, "--json"]
                bad = run("gate", "echo", *to, ok=False)
                self.assertEqual(bad.returncode, 1, bad.stdout + bad.stderr)
                (only,) = json.loads(bad.stdout)["results"][0]["runs"]
                self.assertFalse(only["ok"])
                self.assertIn("out of order", only["failure"])

    def test_a_server_command_is_started_and_stopped(self) -> None:
        port = free_port()
        command = f"exec {BENCH} server epoll tcp://127.0.0.1:{port}"
        results(
            "gate", "echo", "idle", "--to", f"tcp://127.0.0.1:{port}", "--server", command, *SHORT
        )
        with socket.socket() as s:
            self.assertNotEqual(s.connect_ex(("127.0.0.1", port)), 0)


class Databases(unittest.TestCase):
    """Each workload, through an actor in C and through a scene, beside its plain client."""

    def every_way(self, to: str, *workloads: str) -> None:
        # A database's server has a process of its own, which a busy machine may keep waiting.
        time = ["--duration", "400ms", "--warmup", "50ms", "--runs", "1"]
        small = ["--to", to, "--rows", "200", "--outstanding", "8", "--connections", "2", *time]
        for way in (["--floor"], ["--pinned"], ["--scene", "--program", PROGRAM]):
            for result in results("db", *workloads, *small, *way):
                unit = "rows" if result["workload"] == "insert" else "queries"
                with self.subTest(way=way, workload=result["workload"]):
                    self.assertGreater(result["runs"][0]["metrics"][unit], 0)
                    self.assertNotIn(servers.PASSWORD, json.dumps(result))

    def test_sqlite(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.every_way(f"sqlite://{folder}/bench.db", "select", "insert")

    def test_mariadb(self) -> None:
        with servers.mariadb() as server:
            self.every_way(server.url, "select")

    def test_postgres(self) -> None:
        with servers.postgres() as server:
            self.every_way(server.url, "select")

    def test_redis(self) -> None:
        with servers.redis() as server:
            self.every_way(server.url, "get")


class Tools(unittest.TestCase):
    def test_floor(self) -> None:
        probes = ["mpsc1", "mpsc2", "futex", "eventfd", "issue"]
        found = results("floor", *probes, "--runs", "1", "--duration", "50ms")
        self.assertEqual([r["workload"] for r in found], probes)

    def test_a_part_of_the_suite(self) -> None:
        found = results("suite", "--part", "ring")
        self.assertEqual([r["workload"] for r in found], ["ring", "ring"])
        for result in found:
            self.assertGreater(result["summary"]["messages"]["share_of_floor"], 0)

    def test_report_and_compare_files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = [str(pathlib.Path(folder, name)) for name in ("old.json", "new.json")]
            for file in files:
                run(
                    "actors",
                    "ring",
                    "paced",
                    "--floor",
                    "--duration",
                    "30ms",
                    "--runs",
                    "3",
                    "--out",
                    file,
                )
            page = pathlib.Path(folder, "out.html")
            run("report", *files, "-o", str(page))
            text = page.read_text("utf-8")
            self.assertIn("<svg", text)
            self.assertIn("actors ring", text)
            for loaded in ("http:", "https:", "src=", "@import", "<link"):
                self.assertNotIn(loaded, text)
            verdict = run("compare", *files)  # 3 against 3 can't show anything: all noise
            self.assertIn("noise", verdict.stdout)

    def test_compare_sees_a_real_difference(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            old, new = pathlib.Path(folder, "old.json"), pathlib.Path(folder, "new.json")
            run("actors", "ring", "--duration", "20ms", "--runs", "10", "--out", str(old))
            document = json.loads(old.read_text())
            for r in document["results"][0]["runs"]:
                r["metrics"]["messages"] /= 1000  # whatever else the machine did meanwhile
            new.write_text(json.dumps(document))
            worse = run("compare", str(old), str(new), ok=False)
            self.assertEqual(worse.returncode, 1)
            self.assertIn("SLOWER", worse.stdout)
            self.assertIn("faster", run("compare", str(new), str(old)).stdout)

    def test_compare_several_files_and_what_one_side_has_alone(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = [str(pathlib.Path(folder, name)) for name in ("a1", "a2", "b1", "b2", "c")]
            for file in files:
                what = "ring" if file.endswith("c") else "pingpong"
                run("actors", what, "ring", *SHORT, "--runs", "2", "--out", file)
            both = run("compare", ",".join(files[:2]), ",".join(files[2:4])).stdout
            self.assertIn("n 4/4", both)
            alone = run("compare", files[0], files[4]).stdout
            self.assertRegex(alone, r"only in OLD .*pingpong")
            self.assertRegex(alone, r"noise .*ring")
            run("actors", "fanout", *SHORT, "--out", files[4])
            nothing = run("compare", files[0], files[4], ok=False)
            self.assertEqual(nothing.returncode, 2)

    def test_a_suite_shows_and_saves_as_it_goes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "out.json")
            command = [BENCH, "suite", "--part", "ring", "--out", str(path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                self.assertIn("actors ring actors=100 ", process.stdout.readline())
                process.kill()  # the second is under way
                rest = process.stdout.read()
            self.assertIn("core_issue", rest)
            self.assertNotIn("actors=10000", rest)
            run("report", str(path), "-o", str(path.with_suffix(".html")))
        bad = run("suite", "--part", "ring", "--out", str(path), ok=False)
        self.assertEqual((bad.returncode, bad.stdout), (2, ""))

    def test_compare_programs(self) -> None:
        one = ["--pairs", "2", "--", "actors", "ring", "--duration", "20ms", "--warmup", "10ms"]
        self.assertIn("noise", run("compare", BENCH, BENCH, *one).stdout)

    def test_help(self) -> None:
        """Of each command, however it is asked for; it names every workload."""
        commands = {"actors": "closed", "gate": "rooms", "cluster": "call", "db": "select", "floor": "futex",
                    "suite": "--full", "report": "-o", "compare": "--pairs", "server": "epoll"}  # fmt: skip
        general = run("help").stdout
        for command, word in commands.items():
            with self.subTest(command):
                text = run("help", command).stdout
                first = text.splitlines()[0]
                self.assertTrue(first.startswith(f"rr-bench {command} "), first)
                self.assertIn(first.removeprefix("rr-bench "), general)
                self.assertIn(word, text if word.startswith("--") else first)
                for args in (["--help"], ["-h"], ["word", "--help"]):
                    asked = run(command, *args)
                    self.assertEqual((asked.stdout, asked.stderr), (text, ""))
        self.assertIn("RR_BENCH_ROOM", run("gate", "--help").stdout)

    def test_bad_use_is_one_line(self) -> None:
        for args in (
            ["nothing"],
            ["actors", "nothing"],
            ["gate", "echo"],
            ["gate", "echo", "--to", "udp://x"],
            ["actors", "ring", "--duration", "soon"],
            ["compare", "a"],
            ["report", "-o", "x"],
            ["suite", "--part", "nothing"],
            ["suite", "--part", "gate"],
            ["db", "select"],
            ["db", "insert", "--to", "redis://127.0.0.1:1/0"],
            ["db", "select", "--to", "http://x"],
        ):
            with self.subTest(args):
                bad = run(*args, ok=False)
                self.assertEqual(bad.returncode, 2)
                self.assertEqual(bad.stderr.count("\n"), 1, bad.stderr)

    def test_databases_that_do_not_go(self) -> None:
        """Said before anything is run, with what to give."""
        with tempfile.TemporaryDirectory() as folder:
            for args, words in (
                ([], ("which workload?", "select", "--to URL")),
                (["--to", f"sqlite://{folder}/a"], ("which workload?",)),
                (["select"], ("which database?", "--to mysql://")),
                (["select", "--to", f"sqlite://{folder}/a", "--runs", "0"], ("--runs",)),
                (["select", "get", "--to", f"sqlite://{folder}/a"], ("get does not go with sqlite://", "--to redis://")),
                (["get", "--to", "sqlite://"], ("get does not go with sqlite://", "--to redis://")),
                (["insert", "--to", f"mysql://me:{servers.PASSWORD}@127.0.0.1:1/a"], ("--to sqlite:///file",)),
                (["select", "--to", "sqlite://"], ("names no file",)),
            ):
                with self.subTest(args):
                    bad = run("db", *args, ok=False)
                    self.assertEqual((bad.returncode, bad.stdout, bad.stderr.count("\n")), (2, "", 1), bad.stderr)
                    for word in words:
                        self.assertIn(word, bad.stderr)
                    self.assertNotIn(servers.PASSWORD, bad.stderr)
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main()
