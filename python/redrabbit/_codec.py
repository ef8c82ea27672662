"""thrift and protobuf bodies, with the libraries' own code; neither is needed before it is used."""

from __future__ import annotations

from typing import Any


def _thrift() -> tuple[Any, Any]:
    from thrift.protocol import TBinaryProtocol  # type: ignore
    from thrift.transport import TTransport  # type: ignore

    return TTransport, TBinaryProtocol


def thrift_encode(value: Any) -> bytes:
    transports, protocols = _thrift()
    memory = transports.TMemoryBuffer()
    value.write(protocols.TBinaryProtocol(memory))
    data: bytes = memory.getvalue()
    return data


def thrift_decode(value: Any, data: bytes) -> Any:
    """Fills a thrift object from its binary form."""
    transports, protocols = _thrift()
    value.read(protocols.TBinaryProtocol(transports.TMemoryBuffer(data)))
    validate = getattr(value, "validate", None)
    if validate is not None:
        validate()
    return value


def decode_into(value: Any, data: bytes) -> Any:
    if hasattr(value, "thrift_spec"):
        return thrift_decode(value, data)
    if hasattr(value, "ParseFromString"):
        value.ParseFromString(data)
        return value
    raise TypeError(f"{type(value).__name__} is neither a thrift nor a protobuf class")


def typed_decode(cls: type, data: bytes) -> Any:
    return decode_into(cls(), data)


def is_message_class(cls: object) -> bool:
    if not isinstance(cls, type):
        return False
    return hasattr(cls, "thrift_spec") or hasattr(cls, "ParseFromString")
