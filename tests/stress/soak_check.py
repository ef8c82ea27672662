"""What must hold of the soak's journals (soak_scene.py), whatever happened to processes and connections:

  - every call ends, at the latest TARDY turns of its caller behind its deadline
  - OK: executed once. NOROUTE, STALE, OVERLOAD: surely not executed. Else: at most once. Nothing is executed twice
  - what one scene sends another arrives in order; none is missing in between, unless a session of their nodes' link ended
  - the epochs that a receiver sees of a name never go back, neither the callers' nor those in answers
  - no turn of an owner comes behind one of a later owner. A process that was stopped in the middle of a turn may finish it; and
    when a scene that has lost its name ends, its coroutines hear that they are cancelled
  - a client's messages are handled once and in order; its answers come in order, with epochs that never go back
"""

from __future__ import annotations

import bisect
import pathlib
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

TARDY = 60  # turns of 20 ms in which the scene itself ran
REST_NS = 100_000_000  # how long the rest of a turn may last that was begun before a stop
NEAR_NS = 3_000_000_000  # between a session's end and what was lost with it
NOT_EXECUTED = {"NOROUTE", "STALE", "OVERLOAD"}
MAYBE_EXECUTED = {"DIED", "LINKDOWN", "TIMEOUT", "CANCELLED"}


class Call(NamedTuple):
    number: int
    to: str
    began: int
    timeout: int


class Executed(NamedTuple):
    at: int
    number: int
    epoch: int


@dataclass
class Life:
    """One process's scene."""

    name: str
    id: str
    turns: list[int] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)  # all lines: when, epoch
    calls: dict[int, Call] = field(default_factory=dict)
    ends: dict[int, tuple[int, str, int]] = field(default_factory=dict)  # number -> when, status, epoch of the answer
    executed: dict[str, list[Executed]] = field(default_factory=lambda: defaultdict(list))  # by the caller's life
    callers: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))  # epochs by caller's name
    handled: list[tuple[int, str, int]] = field(default_factory=list)  # clients' messages
    cancelled: int = 0  # when its coroutines were, behind all else that it did; 0: they were not

    @property
    def pid(self) -> int:
        return int(self.id.split(".")[0])

    def last(self) -> int:
        return self.marks[-1][0] if self.marks else 0


    def take(self, line: str) -> None:
        what, at_text, epoch_text, *words = line.split(" ")
        at, epoch = int(at_text), int(epoch_text)
        self.marks.append((at, epoch))
        self.cancelled = (self.cancelled or at) if what == "E" and words[1] == "CANCELLED" else 0
        match what:
            case "T":
                self.turns.append(at)
            case "C":
                self.calls[int(words[0])] = Call(int(words[0]), words[1], at, int(words[2]))
            case "E":
                if int(words[0]) in self.ends:
                    raise AssertionError(f"call {words[0]} of {self.name} {self.id} ended twice")
                self.ends[int(words[0])] = (at, words[1], int(words[2]))
            case "X":
                self.executed[words[1]].append(Executed(at, int(words[2]), int(words[3])))
                self.callers[words[0]].append((int(words[3]), words[1]))
            case "M":
                self.handled.append((at, words[0], int(words[1])))


class Journals:
    """All of a folder, read as far as they are written; each line once."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.lives: dict[str, Life] = {}
        self._at: dict[str, int] = {}

    def read(self) -> dict[str, Life]:
        for path in sorted(self.folder.iterdir()):
            name, id = path.name.split(" ")
            life = self.lives.setdefault(id, Life(name, id))
            with path.open("rb") as file:
                file.seek(self._at.setdefault(id, 0))
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                self._at[id] += len(whole) + 1
                for line in whole.decode().split("\n"):
                    life.take(line)
        return self.lives

    def reach(self, since_ns: int) -> set[tuple[str, str]]:
        """Which scenes have been answered by which, in calls made since then."""
        found = set()
        for life in self.read().values():
            for number, (_, status, _) in life.ends.items():
                if status == "OK" and life.calls[number].began >= since_ns:
                    found.add((life.name, life.calls[number].to))
        return found


DOWN_LINE = re.compile(r"^([-0-9]+ [:0-9]+)\.([0-9]+) \w+ +LINK +link to (\w+) \([0-9]+\): down:")


class Downs:
    """When sessions of links ended, as the nodes' logs say."""

    def __init__(self) -> None:
        self.all: dict[frozenset[str], list[int]] = defaultdict(list)

    def add(self, one: str, other: str, at: int) -> None:
        bisect.insort(self.all[frozenset((one, other))], at)

    def read(self, node: str, lines: list[str]) -> None:
        wall_minus_monotonic = time.time() - time.monotonic()
        for line in lines:
            if match := DOWN_LINE.match(line):
                wall = time.mktime(time.strptime(match[1], "%Y-%m-%d %H:%M:%S")) + int(match[2]) / 1000
                self.add(node, match[3], int((wall - wall_minus_monotonic) * 1e9))

    def between(self, one: str, other: str, begin: int, end: int) -> bool:
        times = self.all[frozenset((one, other))]
        return bisect.bisect_left(times, begin - NEAR_NS) < bisect.bisect_right(times, end + NEAR_NS)


@dataclass
class Checker:
    lives: dict[str, Life]
    nodes: dict[str, str]  # of scenes
    downs: Downs
    stopped: set[int]  # pids of processes that were stopped at some time
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def run(self) -> list[str]:
        runs: dict[tuple[str, int], list[str]] = defaultdict(list)
        for life in self.lives.values():
            for caller, rows in life.executed.items():
                self.order(life, caller, rows)
                for row in rows:
                    runs[caller, row.number].append(life.id)
            self.epochs(life)
        for life in self.lives.values():
            self.calls(life, runs)
        self.owners()
        self.clients()
        return self.faults

    def calls(self, life: Life, runs: dict[tuple[str, int], list[str]]) -> None:
        heard: dict[str, int] = defaultdict(int)
        for number, call in life.calls.items():
            what = f"call {number} of {life.name} {life.id} to {call.to} at {call.began}"
            times = len(runs[life.id, number])
            if times > 1:
                self.fault(f"{what} was executed {times} times: {runs[life.id, number]}")
            at, status, _ = life.ends.get(number, (life.last(), "", 0))
            deadline = call.began + call.timeout * 1_000_000
            late = bisect.bisect_left(life.turns, at) - bisect.bisect_right(life.turns, deadline)
            if late > TARDY:
                self.fault(f"{what}: {status or 'no end'} {late} turns behind its deadline")
            if not status:
                continue
            if status in NOT_EXECUTED and times:
                self.fault(f"{what} ended {status}, but it was executed")
            elif status in ("OK", "HANDLER") and times != 1:
                self.fault(f"{what} ended {status}, but it was executed {times} times")
            elif status not in NOT_EXECUTED | MAYBE_EXECUTED | {"OK", "HANDLER"}:
                self.fault(f"{what} ended {status}")
        for number, (at, status, epoch) in life.ends.items():
            if status == "OK":
                to = life.calls[number].to
                if epoch < heard[to]:
                    self.fault(f"{life.name} {life.id} heard {to} with epoch {epoch} behind {heard[to]} (call {number}, {at})")
                heard[to] = max(heard[to], epoch)

    def order(self, life: Life, caller_id: str, rows: list[Executed]) -> None:
        caller = self.lives.get(caller_id)
        if caller is None:
            self.fault(f"{life.name} {life.id} was called by {caller_id}, which has no journal")
            return
        sent = [call for call in caller.calls.values() if call.to == life.name]
        place = {call.number: i for i, call in enumerate(sent)}
        before: Executed | None = None
        for row in rows:
            if row.number not in place:
                self.fault(f"{life.name} {life.id} executed call {row.number} of {caller_id}, which was not made")
                continue
            if before and place[row.number] <= place[before.number]:
                self.fault(f"{life.name} {life.id} executed call {row.number} of {caller_id} behind {before.number}")
            for call in sent[place[before.number] + 1 : place[row.number]] if before else ():
                _, status, _ = caller.ends.get(call.number, (0, "", 0))
                apart = self.downs.between(self.nodes[caller.name], self.nodes[life.name], call.began, row.at)
                if status not in NOT_EXECUTED and not apart:
                    self.fault(
                        f"call {call.number} of {caller.name} {caller_id} to {life.name} {life.id} at {call.began} was lost "
                        f"({status}) ahead of {row.number}, but no session ended"
                    )
            before = row

    def epochs(self, life: Life) -> None:
        for name, rows in life.callers.items():
            highest = 0
            for epoch, caller in rows:
                if epoch < highest:
                    self.fault(f"{life.name} {life.id} took epoch {epoch} of {name} ({caller}) behind {highest}")
                highest = max(highest, epoch)

    def owners(self) -> None:
        for name in set(life.name for life in self.lives.values()):
            marks = sorted(
                (at, epoch, life.id) for life in self.lives.values() if life.name == name for at, epoch in life.marks if epoch
            )
            highest, rests, owner = 0, {}, {}
            for at, epoch, id in marks:
                if owner.setdefault(epoch, id) != id:
                    self.fault(f"{name}: {id} and {owner[epoch]} had the same epoch {epoch}")
                life = self.lives[id]
                ends = life.cancelled and at >= life.cancelled
                if epoch < highest and not (life.pid in self.stopped and (ends or at - rests.setdefault((id, epoch), at) < REST_NS)):
                    self.fault(f"{name}: {id} ran with epoch {epoch} at {at}, behind epoch {highest}")
                highest = max(highest, epoch)

    def clients(self) -> None:
        seen: dict[tuple[str, int], str] = {}
        for life in self.lives.values():
            last: dict[str, int] = defaultdict(int)
            for at, client, number in life.handled:
                if (client, number) in seen:
                    self.fault(f"message {number} of {client} was handled by {seen[client, number]} and {life.id}")
                seen[client, number] = life.id
                if number <= last[client]:
                    self.fault(f"message {number} of {client} was handled behind {last[client]} ({life.id}, {at})")
                last[client] = number
