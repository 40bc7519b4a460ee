"""What parent and worker tell each other: one JSON line a message, over a socket pair. No socket is touched here.

Never here: the key store's secret or a token's PIN; a worker faces the network and has no use for them.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Final, TypeAlias

import msgspec

from gateway.serve.ceremony import Manifest
from gateway.serve.settings import Settings


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One figure, as `fronts.exposition` has it; labels as pairs, in their order."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


class Figure(msgspec.Struct, frozen=True, array_like=True):
    """All figures of one name."""

    name: str
    measure: str
    meaning: str
    samples: list[Sample]


class Orders(msgspec.Struct, frozen=True, tag=True):
    """The first thing that a worker is told. Descriptors are numbers that it has inherited; `settings` is `packed`.

    `slot` is its place in the shared memory, `nonces` the key and the beginning (CLOCK_MONOTONIC) that all share,
    `rates` the key of the tables of rates. `first`: nobody else serves yet, and what a stop left is to be put in order;
    `made` is what a first start's ceremony made.
    """

    settings: bytes
    https: list[int]
    http: list[int]
    memory: int
    slot: int
    workers: int
    signer: list[str]
    parent: int
    nonces: tuple[bytes, float]
    rates: bytes
    first: bool = False
    made: Manifest | None = None


class Told(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Ask`: the figures of all others, gone ones included, and the validations that they have."""

    figures: list[Figure]
    validations: list[str]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker serves; `greeting` is what a person is told of it."""

    greeting: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It cannot start, and why, in a sentence for the operator."""

    sentence: str


class Report(msgspec.Struct, frozen=True, tag=True):
    """Its figures, and the authorizations whose validation it has under way."""

    figures: list[Figure]
    validations: list[str]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """What do the others say?"""


class Renew(msgspec.Struct, frozen=True, tag=True):
    """The listener's certificate is due; `issuer` is the key that signs the next one."""

    issuer: str


class Say(msgspec.Struct, frozen=True, tag=True):
    """Report now: somebody asks."""


ToWorker: TypeAlias = Orders | Told | Say
ToParent: TypeAlias = Ready | Refused | Report | Ask | Renew


_encoder: Final = msgspec.json.Encoder()
_to_worker: Final = msgspec.json.Decoder(ToWorker)
_to_parent: Final = msgspec.json.Decoder(ToParent)


def line(message: ToWorker | ToParent) -> bytes:
    """The message as it travels."""
    return _encoder.encode(message) + b"\n"


def to_worker(written: bytes) -> ToWorker:
    """What the parent says. Raises `msgspec.DecodeError`."""
    message: ToWorker = _to_worker.decode(written)
    return message


def to_parent(written: bytes) -> ToParent:
    """What a worker says. Raises `msgspec.DecodeError`."""
    message: ToParent = _to_parent.decode(written)
    return message


def packed(settings: Settings) -> bytes:
    """The settings as a worker gets them: what opens keys stays with the parent and the signer."""
    known = replace(settings, unlock_secret="", unlock_secret_file=None, pin="", pin_file=None, pins_file=None)
    return pickle.dumps(known)


def unpacked(orders: Orders) -> Settings:
    """The settings of `orders`."""
    settings: Settings = pickle.loads(orders.settings)  # noqa: S301 - from the parent, over a pair of its own
    return settings
