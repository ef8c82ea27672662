"""No two test processes are given the same port at once, and none gives itself one twice in a row."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import unittest

COUNT = 200
ASK = f"import ports; print(*(ports.free_port() for _ in range({COUNT})), flush=True); input()"


class Ports(unittest.TestCase):
    def test_no_port_twice(self) -> None:
        asked = [
            subprocess.Popen(
                [sys.executable, "-c", ASK], cwd=pathlib.Path(__file__).parent, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for _ in range(5)
        ]  # fmt: skip
        given = []
        for process in asked:  # each holds its own until all have answered
            assert process.stdout
            ports = [int(port) for port in process.stdout.readline().split()]
            self.assertEqual(len(ports), COUNT)
            for first in range(COUNT - 25):
                self.assertEqual(len(set(ports[first : first + 25])), 25)
            given.append(set(ports))
        for process in asked:
            process.communicate("\n")
        self.assertEqual(sum(map(len, given)), len(set().union(*given)))


if __name__ == "__main__":
    unittest.main()
