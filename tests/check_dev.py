"""./dev says what is missing where it may not install it; and may be changed while it runs."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[1])
TOOLS = ("bash", "dirname", "env", "grep", "nproc", "seq")
# A Debian without a single package, and somebody who is not root there.
FAKES = {"id": "echo 1000", "dpkg-query": "exit 1", "apt-get": "echo called >&2; exit 1"}


class Dev(unittest.TestCase):
    def run_dev(self, command: str, **fakes: str) -> subprocess.CompletedProcess[str]:
        """A copy of ./dev, in a folder with nothing else than these tools."""
        with tempfile.TemporaryDirectory() as folder:
            for name in TOOLS:
                found = shutil.which(name)
                assert found, name
                pathlib.Path(folder, name).symlink_to(found)
            for name, text in {**FAKES, **fakes}.items():
                path = pathlib.Path(folder, name)
                path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
                path.chmod(0o755)
            dev = pathlib.Path(folder, "dev")
            shutil.copy(ROOT / "dev", dev)
            return subprocess.run([dev, command], env={"PATH": folder}, capture_output=True, text=True, timeout=30)

    def test_changed_while_it_runs(self) -> None:
        """Bash would read on where it was, in whatever is there by then."""
        done = self.run_dev("clean", find="for i in $(seq 5000); do echo 'exit 3'; done >dev")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_neither_root_nor_sudo(self) -> None:
        done = self.run_dev("build")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"only root may install them .*\n +apt-get update && apt-get install .* cmake ")
        self.assertNotIn("called", done.stderr)


if __name__ == "__main__":
    unittest.main()
