"""JSON, strictly: no member twice, no depth, no number that is none, no half of a surrogate pair (A17).

msgspec keeps the last of two equal members in silence, and an attacker's second reader may keep the first. So what it
made of a text is believed only where as many strings came out as went in; any other text is read by the standard
library, which shows every pair. What one of them takes, the other takes too, and as the same value. Where a form says
how many strings its texts hold, `Form` counts the marks in the text alone, and nothing of the value is walked through.
"""

from __future__ import annotations

import json
from typing import Final, Generic, NoReturn, TypeVar

import msgspec

from protocols.exchange import Malformed

T = TypeVar("T")

BRACES: Final = 256
"""Objects and arrays in one text, which also bounds its depth: an order for a hundred names has 102."""

MEMBERS: Final = 64
"""Members of one object; the largest that ACME knows has fewer than ten."""


def read(text: bytes, *, field: str) -> object:
    """The value of a JSON text.

    Raises:
        Malformed: not UTF-8, not JSON, a member twice, more than the limits above.
    """
    if text.count(b"{") + text.count(b"[") > BRACES:
        raise Malformed(f"The {field} holds too many objects and arrays.", field=field)
    # Without a backslash every quotation mark begins or ends a string, and a member that came twice is missing one.
    if b"\\" not in text:
        try:
            value: object = _QUICK.decode(text)
        except (ValueError, RecursionError):
            return _slowly(text, field)
        if text.count(b'"') == 2 * _strings(value):
            return value
    return _slowly(text, field)


def _slowly(text: bytes, field: str) -> object:
    """As `read`, by the standard library: it takes five times as long, and can say what is wrong."""
    try:
        value: object = _DECODER.decode(text.decode())
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except _TwiceError as twice:
        raise Malformed(f"The {field} has the member {twice.args[0]!r} twice.", field=field) from None
    except ValueError:  # also of bytes that are not UTF-8, of surrogates, and of integers without end
        raise Malformed(f"The {field} is not valid JSON in UTF-8.", field=field) from None
    return value


def members(text: bytes, *, field: str) -> dict[str, object]:
    """The members of a JSON object.

    Raises:
        Malformed: as `read`, or another kind of value (A26).
    """
    value = read(text, field=field)
    if not isinstance(value, dict):
        raise Malformed(f"The {field} is not a JSON object.", field=field)
    return value


def shape(value: object, kind: type[T], *, field: str) -> T:
    """A value that `read` gave, as a msgspec type; members that the type does not know are ignored (A26).

    Raises:
        Malformed: a member that is missing or of a wrong type; the sentence names it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as fault:
        raise Malformed(f"The {field} does not have the form it needs: {fault}.", field=field) from None


class Form(Generic[T]):
    """What most texts of a kind look like: the members of a struct, `strings` strings with their names, and no more.

    All members of `kind` are required, and are strings or hold a fixed number of such structs: a text that decodes has
    `strings` of them at least. With no more quotation marks than those have, no member came twice, none stands beside
    them, and no mark was an escaped one. One pass, where `read` and `shape` make three.
    """

    __slots__ = ("_decode", "_marks")

    def __init__(self, kind: type[T], *, strings: int) -> None:
        self._decode = msgspec.json.Decoder(kind).decode
        self._marks = 2 * strings

    def exact(self, text: bytes) -> T | None:
        """The value of such a text; None for any other, sound or not, which `read` is to look at."""
        if text.count(b'"') == self._marks:
            try:
                return self._decode(text)
            except (ValueError, RecursionError):
                return None
        return None


class _TwiceError(ValueError):
    """A member appears twice."""


def _strings(value: object) -> int:
    """How many strings a value holds, names of members included; below 0 where that is not to be relied on.

    Numbers are not: beyond 64 bits they come out as something else.
    """
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        if len(value) > MEMBERS:
            return _UNKNOWN
        found = len(value)
        for each in value.values():
            found += 1 if type(each) is str else _strings(each)
        return found
    if isinstance(value, list):
        return sum(map(_strings, value))
    return 0 if value is None or isinstance(value, bool) else _UNKNOWN


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MEMBERS:
        raise ValueError("too many members")
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1)[:64])
    return found


def _no_number(text: str) -> NoReturn:
    """NaN and the infinities: Python reads them, JSON does not have them."""
    raise ValueError(text)


_QUICK: Final = msgspec.json.Decoder()
# Below what any number of strings could make up for.
_UNKNOWN: Final = -(1 << 40)
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)
