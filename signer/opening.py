"""What a supervisor tells a worker first, and only it may know. Nothing of it is kept, logged or written down here."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from signer.keystore.seal import KEY_LENGTH

_LENGTH: Final = 4  # bytes


def opening(kek: bytes, pins: dict[str, str]) -> bytes:
    """What a supervisor says to a worker first: the key-encryption key, then the tokens' PINs with their length."""
    encoded = msgspec.msgpack.encode(pins)
    return kek + len(encoded).to_bytes(_LENGTH, "big") + encoded


def read_opening(descriptor: int) -> tuple[bytes, dict[str, str]] | None:
    """What `opening` said, from a descriptor; None where the supervisor went away before it said everything."""
    kek = _read_exactly(descriptor, KEY_LENGTH)
    length = None if kek is None else _read_exactly(descriptor, _LENGTH)
    pins = None if length is None else _read_exactly(descriptor, int.from_bytes(length, "big"))
    if kek is None or pins is None:
        return None
    return kek, msgspec.msgpack.decode(pins, type=dict[str, str])


def _read_exactly(descriptor: int, length: int) -> bytes | None:
    received = b""
    while len(received) < length:
        more = os.read(descriptor, length - len(received))
        if not more:
            return None
        received += more
    return received
