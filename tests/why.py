"""Of a failed test's output, the few lines that say why: for somebody who sees only the end of a CI run."""

from __future__ import annotations

import re

WIDTH = 240  # characters of a line
TAIL = 25  # of a test's lines, the last ones
EACH = 60  # lines of one test
ALL = 200  # lines of a whole run
LEAST = 12  # lines of a test that are worth printing

PASSED = re.compile(r"\.\.\. (ok|skipped .*)$")
RULER = re.compile(r"^[\s=\-^~]*$")
# What names a failure, whoever reports it: a sanitizer, Check, unittest, an exception, a C assertion, libFuzzer.
NAMES = re.compile(
    r"(ERROR|WARNING|SUMMARY): \w*Sanitizer|runtime error:|ERROR: libFuzzer"
    r"|\.[ch]:\d+:[FE]:|^(\d+: )?(FAIL|ERROR): |^[\w.]*(Error|Exception|Closed|Timeout\w*|Interrupt)(:|$)|Assertion .* failed"
)
# Our own frames of a traceback.
FRAME = re.compile(r'^ *File ".*/(tests|python/redrabbit)/')
# Those of the machinery that calls tests, with the source lines under them.
FOREIGN = re.compile(r'^ *File "[^"\n]*/(?:asyncio|unittest)/[^\n]*\n(?:    [^\n]*\n)*', re.M)
AFTER = 8  # lines that explain the one that names a failure
AFTER_FRAME = 2


def meaningful(output: str) -> list[str]:
    """Without what passed, frames of the machinery, rulers and empty lines; long lines are cut."""
    lines = (line.rstrip() for line in FOREIGN.sub("", output).splitlines())
    kept = (line for line in lines if not RULER.match(line) and not PASSED.search(line))
    return [line if len(line) <= WIDTH else line[:WIDTH] + " …" for line in kept]


def excerpt(output: str, most: int = EACH) -> list[str]:
    """At most ``most`` lines: those that name the failure, what follows them, and the end. "…" stands for what is left out."""
    lines = meaningful(output)
    if len(lines) <= most:
        return lines
    names = [at for at, line in enumerate(lines) if NAMES.search(line)]
    frames = [at for at, line in enumerate(lines) if FRAME.search(line)]
    end = range(len(lines) - 1, -1, -1)
    wanted = [
        *names[: most // 4],
        *end[: min(TAIL, most // 2)],
        *(near for at in frames[-most // 4 :] for near in range(at, at + AFTER_FRAME)),
        *(near for at in names for near in range(at, at + AFTER)),
        *end,
    ]
    chosen: set[int] = set()
    for at in wanted:
        if at < len(lines):
            chosen.add(at)
            if len(chosen) + gaps(chosen) > most:
                chosen.remove(at)
                break
    shown: list[str] = []
    before = -1
    for at in sorted(chosen):
        if at != before + 1:
            shown.append("…")
        shown.append(lines[at])
        before = at
    return shown


def gaps(chosen: set[int]) -> int:
    """How many "…" these lines need."""
    return sum(at != 0 and at - 1 not in chosen for at in chosen)


def report(failures: list[tuple[str, str]]) -> list[str]:
    """The excerpts of (name, output) under their names, at most ALL lines; what finds no room is counted."""
    lines: list[str] = []
    for number, (name, output) in enumerate(failures):
        left, others = ALL - len(lines), len(failures) - number
        if left < LEAST + 2:
            return [*lines, f"--- and {others} more"]
        most = max(LEAST, min(EACH, left // others - 1))
        lines += [f"--- {name}", *(f"    {line}" for line in excerpt(output, most) or ["(no output)"])]
    return lines
