"""The form that nearly every message has, found in one pass: definite lengths, and no field that most leave out.

Nothing is refused here, nor forgiven: what differs in anything is None, and for `ber` to read. Element by element, as
`ber` does it, took twice as long.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from protocols.cms import der

Path: TypeAlias = tuple[tuple[int, int], ...]
"""Steps from one element to the next, each with the tag that stands there: into it, past it, or out of the last one."""

Place: TypeAlias = tuple[int, int, int]
"""Where an element begins, where its contents do, and where it ends."""

_INTO: Final = 0
_KEPT: Final = 1
_PASSED: Final = 2
_OUT: Final = ((0, 3),)


def into(tag: int, *within: Path) -> Path:
    """A constructed element that holds just these."""
    return ((tag, _INTO), *(step for path in within for step in path), *_OUT)


def kept(*tags: int) -> Path:
    """Elements that are wanted, one after the other."""
    return tuple((tag, _KEPT) for tag in tags)


def passed(*tags: int) -> Path:
    """Elements that must be there, and say nothing that is wanted."""
    return tuple((tag, _PASSED) for tag in tags)


def content_info(*within: Path) -> Path:
    """A ContentInfo (RFC 5652, 3): its type, which is kept, and a content of just these."""
    return into(der.SEQUENCE, kept(der.OBJECT_IDENTIFIER), into(0xA0, into(der.SEQUENCE, *within)))


def named(*others: int) -> Path:
    """Who signed or receives (RFC 5652, 5.3 and 6.2.1): a version, issuer and serial, and what else is kept."""
    who = into(der.SEQUENCE, kept(der.SEQUENCE, der.INTEGER))
    return into(der.SET, into(der.SEQUENCE, passed(der.INTEGER), who, kept(*others)))


def places(octets: bytes, path: Path) -> list[Place] | None:
    """The kept elements of a message that is one element and nothing behind it; None where it is not of this form."""
    at, stop = 0, len(octets)
    outer: list[int] = []
    found: list[Place] = []
    try:
        for tag, step in path:
            if step > _PASSED:
                if at != stop:
                    return None
                stop = outer.pop()
                continue
            length, inside = octets[at + 1], at + 2
            if length == 0x82:
                length, inside = octets[at + 2] << 8 | octets[at + 3], at + 4
            elif length == 0x81:
                length, inside = octets[at + 2], at + 3
            elif length > 0x82 or length == 0x80:
                return None
            end = inside + length
            if octets[at] != tag or end > stop:
                return None
            if step == _KEPT:
                found.append((at, inside, end))
            elif step == _INTO:
                outer.append(stop)
                stop, end = end, inside
            at = end
    except IndexError:  # cut short
        return None
    return found if at == stop else None
