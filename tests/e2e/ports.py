"""Ports for the servers of tests: below the ephemeral range, so that no client's socket takes one before its server does, and
no two test processes are ever given the same.

A process owns blocks of ports as long as it lives: who binds a block's name, an abstract Unix socket, owns the block. The
kernel gives the name back with the process, however that ends.
"""

from __future__ import annotations

import random
import socket

FIRST, BLOCK, BLOCKS = 20000, 50, 200
_owners: list[socket.socket] = []  # bound to the names of our blocks
_ports: list[int] = []  # of these blocks, who was given longest ago first


def _is_free(port: int, family: socket.AddressFamily) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        except OSError:
            return False
    return True


def _own_another_block() -> None:
    for block in random.sample(range(BLOCKS), BLOCKS):
        owner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            owner.bind(f"\0redrabbit-test-ports-{block}")
        except OSError:
            owner.close()
            continue
        _owners.append(owner)
        _ports[:0] = range(FIRST + block * BLOCK, FIRST + (block + 1) * BLOCK)
        return
    raise RuntimeError("other tests have all ports")


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """One that nobody listens at, and that this process was not given lately."""
    while True:
        for at, port in enumerate(_ports[: len(_ports) - BLOCK // 2]):
            if _is_free(port, family):
                _ports.append(_ports.pop(at))
                return port
        _own_another_block()
