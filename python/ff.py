"""The C++ module of the original, as far as scripts look at it: `ff.service_name`."""

from __future__ import annotations

import _redrabbit

service_name: str = _redrabbit.name()
