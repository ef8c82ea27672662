"""The C++ module of the original, as far as scripts look at it: `ff.service_name`."""

from __future__ import annotations

import redrabbit  # first: outside of a server it stands in for _redrabbit  # noqa: F401

import _redrabbit

service_name: str = _redrabbit.name()
