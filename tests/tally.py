"""Adds up the JUnit files of every ctest run and prints the suite's one summary line.

A test program that says how many cases it ran (Check, unittest, node's runner) counts as that many; any other counts as one.
"""

from __future__ import annotations

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED)(?: \((.*)\))?", re.M)


def cases(output: str) -> tuple[int, int, int] | None:
    """(passed, failed, skipped) as the program itself reported them, or None."""
    total = failed = skipped = 0
    for match in CHECK.finditer(output):
        total += int(match[1])
        failed += int(match[2]) + int(match[3])
    for match in UNITTEST.finditer(output):
        total += int(match[1])
        for key, number in re.findall(r"([a-z ]+)=(\d+)", match[2] or ""):
            if key.strip() in ("failures", "errors"):
                failed += int(number)
            elif key.strip() == "skipped":
                skipped += int(number)
    return (total - failed - skipped, failed, skipped) if total else None


def tally(file: pathlib.Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one ctest run."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        status = case.get("status")
        if status == "disabled":
            continue
        counted = cases(case.findtext("system-out") or "")
        if status == "notrun":
            # ctest says so for an exit status of 77, and for a program that is missing.
            skip = (case.find("skipped") is not None) and "SKIP_RETURN_CODE" in (
                case.find("skipped").get("message") or ""
            )
            skipped, failed = skipped + skip, failed + (not skip)
        elif status == "run":
            good, bad, skip = counted or (1, 0, 0)
            passed, failed, skipped = passed + good, failed + bad, skipped + skip
        else:
            good, bad, skip = counted or (0, 1, 0)
            passed, failed, skipped = passed + good, failed + max(bad, 1), skipped + skip
            print(f"failed: {file.stem}: {case.get('name')}")
    return passed, failed, skipped


def main() -> int:
    """One line a run, then the sum alone on the last line."""
    passed = failed = skipped = 0
    for file in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
        good, bad, skip = tally(file)
        print(f"{file.stem}: {good} passed, {bad} failed, {skip} skipped")
        passed, failed, skipped = passed + good, failed + bad, skipped + skip
    if not passed and not failed:
        print("no test ran")
        failed = 1
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
