"""No wait, timer or lease looks at the wall clock, which somebody may set: what waits counts on CLOCK_MONOTONIC or CLOCK_BOOTTIME."""

from __future__ import annotations

import os
import pathlib
import re
import unittest

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[1])
SOURCES = [path for top in ("runtime", "net", "python", "actors", "conf") for path in sorted((ROOT / top).rglob("*.[ch]"))]
# Who tells the time of day: the clock for lines of the log, and numbers that scripts get.
TELLS = {"runtime/clock.c", "actors/scene.c"}
# Without a clock of their own these count on CLOCK_REALTIME.
WALL = re.compile(r"\b(sem_timedwait|pthread_timedjoin_np|pthread_mutex_timedlock|pthread_rwlock_timed\w+|mtx_timedlock|cnd_timedwait)\b")


class Clocks(unittest.TestCase):
    def test_nobody_waits_by_the_wall_clock(self) -> None:
        self.assertGreater(len(SOURCES), 100)
        for path in SOURCES:
            name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            self.assertIsNone(WALL.search(text), f"{name}: take the one with a clock (sem_clockwait, pthread_cond_clockwait)")
            if name not in TELLS:
                self.assertNotRegex(text, r"\bCLOCK_REALTIME|\bgettimeofday\b", name)
            if re.search(r"\bpthread_cond_timedwait\b", text):
                self.assertRegex(text, r"pthread_condattr_setclock\(&\w+, CLOCK_MONOTONIC\)", name)


if __name__ == "__main__":
    unittest.main()
