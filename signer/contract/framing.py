"""Frames on the signer's wire: four bytes of length, big-endian, then msgpack. No socket is touched here.

A frame is one `Batch` or one `Answers`. Its length is checked before a byte of it is kept, and its shape is checked
whole by msgspec before a worker looks at any ask in it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from signer.contract.messages import Answers, Batch

# Bytes. A revoked serial takes 25 in a SignCrl and about 43 in its list: 600,000 of them, which is more than anyone
# fetches. A worker holds one such frame a connection, and only its own user can connect.
MAX_BATCH: Final = 16 * 1024 * 1024
MAX_ANSWERS: Final = 32 * 1024 * 1024
_LENGTH: Final = 4

_encoder = msgspec.msgpack.Encoder()
_batches = msgspec.msgpack.Decoder(Batch)
_answers = msgspec.msgpack.Decoder(Answers)


class BadFrame(Exception):
    """The peer does not speak this contract: an impossible length, or another shape. Close the connection."""


class FrameTooLarge(Exception):
    """What should be sent does not fit into one frame; nothing was sent."""


def encode_batch(batch: Batch) -> bytearray:
    """One frame that carries `batch`. Raises `FrameTooLarge`."""
    return _encode(batch, MAX_BATCH)


def encode_answers(answers: Answers) -> bytearray:
    """One frame that carries `answers`. Raises `FrameTooLarge`."""
    return _encode(answers, MAX_ANSWERS)


def decode_batch(payload: bytes | memoryview) -> Batch:
    """The batch in one frame's payload. Raises `BadFrame`. The caller looks at its `version`."""
    try:
        return _batches.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(f"not a batch: {error}") from None


def decode_answers(payload: bytes | memoryview) -> Answers:
    """The answers in one frame's payload. Raises `BadFrame`."""
    try:
        return _answers.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(f"not answers: {error}") from None


class Frames:
    """Cuts a stream of bytes into the payloads of frames, for blocking and for asynchronous readers alike.

    `limit` is in bytes. At most one unfinished frame is kept.
    """

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._held = bytearray()
        self._limit = limit

    def feed(self, received: bytes) -> list[bytes | memoryview]:
        """The payloads that `received` completes, in order. Raises `BadFrame` on a length that no frame may have."""
        if not self._held and len(received) > _LENGTH:
            length = int.from_bytes(received[:_LENGTH], "big")
            if len(received) == _LENGTH + length and 0 < length <= self._limit:
                return [memoryview(received)[_LENGTH:]]  # what nearly every read is: one whole frame, not copied
        self._held += received
        payloads: list[bytes | memoryview] = []
        start = 0
        while len(self._held) - start >= _LENGTH:
            length = int.from_bytes(self._held[start : start + _LENGTH], "big")
            if not 0 < length <= self._limit:
                raise BadFrame(f"a frame of {length} bytes; the limit is {self._limit}")
            end = start + _LENGTH + length
            if len(self._held) < end:
                break
            payloads.append(bytes(self._held[start + _LENGTH : end]))
            start = end
        del self._held[:start]
        return payloads


def _encode(message: Batch | Answers, limit: int) -> bytearray:
    frame = bytearray(_LENGTH)
    _encoder.encode_into(message, frame, _LENGTH)
    length = len(frame) - _LENGTH
    if length > limit:
        raise FrameTooLarge(f"a frame of {length} bytes; the limit is {limit}")
    frame[:_LENGTH] = length.to_bytes(_LENGTH, "big")
    return frame
