"""Adds up the JUnit files of every ctest run and prints the suite's one summary line.

A test program that says how many cases it ran (Check, unittest, node's runner) counts as that many; any other counts as one.
Of each that failed, the lines that say why come first, on standard error.
"""

from __future__ import annotations

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

from why import report

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


def tally(file: pathlib.Path, failures: list[tuple[str, str]]) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one ctest run; adds (name, output) of what failed."""
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
            if not skip:
                failures.append(failure(file, case))
        elif status == "run":
            good, bad, skip = counted or (1, 0, 0)
            passed, failed, skipped = passed + good, failed + bad, skipped + skip
        else:
            good, bad, skip = counted or (0, 1, 0)
            passed, failed, skipped = passed + good, failed + max(bad, 1), skipped + skip
            failures.append(failure(file, case))
    return passed, failed, skipped


def failure(file: pathlib.Path, case: ElementTree.Element) -> tuple[str, str]:
    """Its name with what ctest says of it (Timeout, SEGFAULT …), and its output."""
    found = case.find("failure")
    if found is None:
        found = case.find("skipped")
    said = (found.get("message") or "") if found is not None else ""
    name = f"{file.stem}: {case.get('name')}" + (f" ({said})" if said else "")
    return name, case.findtext("system-out") or ""


def main() -> int:
    """Why tests failed and their names, one line a run, then the sum alone on the last line."""
    passed = failed = skipped = 0
    failures: list[tuple[str, str]] = []
    runs = []
    for file in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
        good, bad, skip = tally(file, failures)
        runs.append(f"{file.stem}: {good} passed, {bad} failed, {skip} skipped")
        passed, failed, skipped = passed + good, failed + bad, skipped + skip
    for line in report(failures):
        print(line, file=sys.stderr, flush=True)
    for name, _ in failures:
        print(f"failed: {name}")
    for line in runs:
        print(line)
    if not passed and not failed:
        print("no test ran")
        failed = 1
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
