"""board@0: a scene without sessions, which counts what people say wherever they say it."""

from __future__ import annotations

from collections import Counter

import redrabbit


class Board:
    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()


board = redrabbit.singleton(Board)


@redrabbit.service("count")
def count(name: str) -> int:
    board.lines[name] += 1
    return board.lines[name]


@redrabbit.service("top")
def top(msg: None) -> list[tuple[str, int]]:
    return board.lines.most_common(5)
