"""The tally counts what each kind of program reports, and of what failed it prints the lines that say why, not more than that."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.sax.saxutils import escape, quoteattr

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[1])
NOISE = "\n".join(f"2026-11-30 12:00:00.{number:06} INFO  gate@0: line {number}" for number in range(5000))

UNITTEST = f"""test_good (__main__.Good.test_good) ... ok
test_bad (__main__.Bad.test_bad)
It must not. ... FAIL

======================================================================
FAIL: test_bad (__main__.Bad.test_bad)
It must not.
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/usr/lib/python3.11/asyncio/runners.py", line 190, in run
    return runner.run(main)
           ^^^^^^^^^^^^^^^^
  File "/somewhere/tests/e2e/test_bad.py", line 12, in test_bad
    self.assertEqual(status, 0, server.output)
AssertionError: 3 != 0 : {NOISE}
the server's last words

----------------------------------------------------------------------
Ran 2 tests in 3.141s

FAILED (failures=1)
"""
CHECK = """50%: Checks: 2, Failures: 1, Errors: 0
/somewhere/tests/unit/net/test_link.c:77:F:core:opens:0: Assertion 'got == 1' failed: got == 0, 1 == 1
"""
SANITIZER = f"""==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x1 at pc 0x2
READ of size 8 at 0x1 thread T0
    #0 0x3 in rr_culprit /somewhere/net/link.c:5
{NOISE}
SUMMARY: AddressSanitizer: heap-use-after-free /somewhere/net/link.c:5 in rr_culprit
{NOISE}
"""


def case(name: str, output: str, status: str = "run", why: str = "") -> str:
    what = f"<failure message={quoteattr(why)}/>" if why else ""
    return f'<testcase name="{name}" status="{status}">{what}<system-out>{escape(output)}</system-out></testcase>'


class Tally(unittest.TestCase):
    def tally(self, **files: list[str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            for name, cases in files.items():
                text = f"<testsuite>{''.join(cases)}</testsuite>"
                pathlib.Path(folder, f"{name}.xml").write_text(text, encoding="utf-8")
            tool = [sys.executable, str(ROOT / "tests" / "tally.py"), folder]
            return subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)

    def test_all_passed(self) -> None:
        done = self.tally(debug=[case("e2e.a", "Ran 3 tests in 1.000s\n\nOK (skipped=1)\n"), case("fuzz.b", "")])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "debug: 3 passed, 0 failed, 1 skipped\n3 passed, 0 failed, 1 skipped\n")

    def test_why(self) -> None:
        done = self.tally(
            debug=[case("unit.net.link", CHECK, "fail", "Failed"), case("unit.net.good", "100%: Checks: 2, Failures: 0, Errors: 0")],
            asan=[case("e2e.bad", UNITTEST, "fail", "Failed"), case("stress.bad", SANITIZER, "fail", "Timeout")],
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.splitlines()[-1], "4 passed, 3 failed")
        self.assertIn("failed: asan: stress.bad (Timeout)\n", done.stdout)
        for words in (
            "--- debug: unit.net.link (Failed)", "test_link.c:77:F:core:opens:0: Assertion 'got == 1' failed",
            "FAIL: test_bad", 'test_bad.py", line 12', "self.assertEqual(status, 0", "AssertionError: 3 != 0",
            "the server's last words", "FAILED (failures=1)",
            "ERROR: AddressSanitizer: heap-use-after-free", "#0 0x3 in rr_culprit", "SUMMARY: AddressSanitizer", "line 4999",
        ):  # fmt: skip
            self.assertIn(words, done.stderr)
        for words in ("test_good", "runners.py", "runner.run", "line 1234"):
            self.assertNotIn(words, done.stderr)
        self.assertLess(len(done.stderr.splitlines()), 130)

    def test_many(self) -> None:
        """However much fails, the report is bounded, and the tally names all."""
        done = self.tally(debug=[case(f"e2e.bad{number}", UNITTEST, "fail", "Failed") for number in range(100)])
        lines = done.stderr.splitlines()
        self.assertLessEqual(len(lines), 201)
        self.assertRegex(lines[-1], r"^--- and \d+ more$")
        self.assertLess(max(map(len, lines)), 300)
        self.assertEqual(sum(line.startswith("failed: debug: e2e.bad") for line in done.stdout.splitlines()), 100)
        first = done.stderr.partition("--- debug: e2e.bad1 ")[0]
        for words in ("FAIL: test_bad", "AssertionError: 3 != 0"):
            self.assertIn(words, first)


if __name__ == "__main__":
    unittest.main()
