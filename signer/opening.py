"""What a supervisor and a worker tell each other. What only they may know is not kept, logged or written down here."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from signer.keystore.seal import KEY_LENGTH

_LENGTH: Final = 4  # bytes
_NAME: Final = 64  # bytes; a token's label has 32 (PKCS#11, 3.2)


class Orders(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a supervisor tells a worker in its arguments: nothing that others may not know.

    `stuck` is for how many seconds a token may keep it waiting, `resting` for how many more each token by name is left
    alone. `again` is for a worker that follows another: it serves what it can, whatever else is out of reach. `note` is
    a descriptor of a file that both have: in it stands the token that was called last. `ended` is how the workers
    before it ended, by cause. `pins` names files of PINs, to be read again whenever a token is opened.
    """

    stuck: float = 0.0
    again: bool = False
    resting: dict[str, float] = {}
    note: int = -1
    ended: dict[str, int] = {}
    pins: list[str] = []


def note_token(descriptor: int, name: str) -> None:
    """Note which token is called from now on."""
    os.pwrite(descriptor, name.encode()[:_NAME].ljust(_NAME, b"\0"), 0)


def noted_token(descriptor: int) -> str:
    """The name of the token that was called last, empty if none was."""
    return os.pread(descriptor, _NAME, 0).rstrip(b"\0").decode(errors="ignore")


def read_orders(text: str) -> Orders:
    """What the supervisor said; the defaults where it said nothing."""
    return msgspec.json.decode(text, type=Orders) if text else Orders()


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
