"""Seeded damage for parsers: the same seed always gives the same bytes, so that a failure can be seen again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

# Bytes that mean something to the parsers under test: DER tags and lengths, JSON and base64 punctuation, line ends.
_MEANINGFUL = b'\x00\x01\x02\x04\x05\x06\x0c\x13\x30\x31\x7f\x80\x81\x82\x84\xa0\xa3\xff{}[]",:=-_\\\r\n /'


def mutations(seed: bytes, n: int, corpus: Sequence[bytes]) -> Iterator[bytes]:
    """Give `n` damaged variants of the corpus's members: flipped, cut, repeated, spliced and inserted bytes."""
    dice = random.Random(seed)  # not for secrets: reproducible on purpose
    for _ in range(n):
        data = bytearray(dice.choice(corpus))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            _damage(dice, data, corpus)
        yield bytes(data)


def _damage(dice: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    """One wound, in place."""
    at = dice.randrange(len(data) + 1)
    until = min(len(data), at + dice.choice((1, 1, 2, 4, 16, 64)))
    match dice.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        case 1 if at < len(data):
            data[at] = dice.choice(_MEANINGFUL)
        case 2:
            del data[at:until]
        case 3:
            del data[at:]
        case 4:
            data[at:at] = data[at:until]
        case 5:
            data[at:at] = bytes(dice.choice(_MEANINGFUL) for _ in range(dice.choice((1, 2, 5))))
        case _:
            other = dice.choice(corpus)
            cut = dice.randrange(len(other) + 1)
            data[at:until] = other[cut : cut + dice.choice((1, 4, 16, 64))]
