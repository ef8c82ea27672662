"""The types of the Python that we ship hold under `mypy --strict`, for the oldest CPython and for the one with scenes in parallel."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[1])
PYTHON = ROOT / "python"
MYPY = shutil.which("mypy", path="/usr/bin:" + os.environ.get("PATH", ""))
VERSIONS = ("3.11", "3.13")


@unittest.skipUnless(MYPY, "mypy is not installed (Debian: apt-get install mypy): the types are not checked")
class Types(unittest.TestCase):
    def setUp(self) -> None:
        cache = tempfile.TemporaryDirectory(prefix="rr-mypy-")
        self.addCleanup(cache.cleanup)
        self.cache = cache.name

    def check(self, *files: pathlib.Path) -> None:
        for version in VERSIONS:
            done = subprocess.run(
                [str(MYPY), "--strict", "--python-version", version, "--cache-dir", self.cache, *map(str, files)],
                cwd=self.cache, env={**os.environ, "MYPYPATH": str(PYTHON)}, capture_output=True, text=True,
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, f"CPython {version}:\n{done.stdout}{done.stderr}")

    def test_the_package(self) -> None:
        self.check(PYTHON / "redrabbit", *PYTHON.glob("*.py"), *PYTHON.glob("*.pyi"))

    def test_the_scripts(self) -> None:
        """Folder by folder: several have a main.py."""
        folders = sorted({path.parent for path in (ROOT / "conf").rglob("*.py")})
        self.assertTrue(folders)
        for folder in folders:
            with self.subTest(folder.name):
                self.check(*folder.glob("*.py"))


if __name__ == "__main__":
    unittest.main()
