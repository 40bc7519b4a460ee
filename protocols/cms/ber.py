"""Reading BER under limits, lazily: an element's children are looked at only when somebody asks.

BER and not DER, because Apple's clients send indefinite lengths and OCTET STRINGs in pieces (S39). Nothing here may
recurse, or walk, further than the limits allow, whatever the bytes say; what is not well formed is `Malformed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from protocols.cms import der
from protocols.exchange import Malformed

MAX_SIZE: Final = 256 * 1024  # octets of a whole message (S52)
MAX_DEPTH: Final = 16  # a SCEP message is nine deep; constructed strings add one or two (S52)
# Elements visited of one message. A real one shows about a hundred; a client that cuts 256 KiB into pieces of 128
# octets still fits. Without this, 256 KiB of empty elements would cost a tenth of a second.
MAX_ELEMENTS: Final = 4096

_CONSTRUCTED: Final = 0x20
_INDEFINITE: Final = 0x80
# Tags of one octet that may begin an element.
_PLAIN: Final = frozenset(tag for tag in range(1, 256) if tag & 0x1F != 0x1F)


@dataclass(slots=True)
class _Source:
    """The octets being read, and how many elements may still be visited."""

    octets: bytes
    left: int


class Element(NamedTuple):
    """One element. Offsets are into the message; `parts` are the children where the length is indefinite.

    A tuple and not a dataclass: about a hundred of them are made for each message, and a tuple costs a third.
    """

    source: _Source
    tag: int
    start: int
    body: int
    end: int
    stop: int
    depth: int
    parts: tuple[Element, ...] | None

    @property
    def received(self) -> bytes:
        """The whole element as it was received, header included."""
        return self.source.octets[self.start : self.stop]

    @property
    def contents(self) -> bytes:
        """The contents of a primitive element. Raises Malformed where it is constructed."""
        if self.tag & _CONSTRUCTED:
            raise Malformed("A primitive ASN.1 element is encoded as a constructed one.")
        return self.source.octets[self.body : self.end]

    def children(self, limit: int = 64) -> tuple[Element, ...]:
        """The elements inside a constructed one. Raises Malformed where it is primitive or holds more than `limit`."""
        if not self.tag & _CONSTRUCTED:
            raise Malformed("A constructed ASN.1 element is encoded as a primitive one.")
        if self.parts is not None:
            if len(self.parts) > limit:
                raise Malformed(f"An ASN.1 element holds more than {limit} others.")
            return self.parts
        found: list[Element] = []
        source, at, end, depth = self.source, self.body, self.end, self.depth + 1
        octets = source.octets
        # How many may be made without a look at the message's own bounds; what is beyond them `_read` refuses.
        quick = source.left if depth <= MAX_DEPTH else 0
        while at < end:
            if len(found) == limit:
                raise Malformed(f"An ASN.1 element holds more than {limit} others.")
            body = at + 2
            # Most are short: with a length of one octet nothing can be wrong but what is asked here.
            if quick > 0 and body <= end and octets[at] in _PLAIN and (length := octets[at + 1]) < _INDEFINITE:
                stop = body + length
                if stop <= end:
                    source.left = quick = quick - 1
                    found.append(_made(Element, (source, octets[at], at, body, stop, stop, depth, None)))
                    at = stop
                    continue
            element = _read(source, at, end, depth)
            quick = source.left
            found.append(element)
            at = element.stop
        return tuple(found)

    def octets(self) -> bytes:
        """The value of an OCTET STRING (or one under an implicit tag), put together where it came in pieces."""
        if not self.tag & _CONSTRUCTED:
            return self.source.octets[self.body : self.end]
        pieces: list[bytes] = []
        for piece in self.children(MAX_ELEMENTS):
            if piece.tag & ~_CONSTRUCTED != der.OCTET_STRING:
                raise Malformed("An OCTET STRING in pieces holds something else than OCTET STRINGs.")
            pieces.append(piece.octets())
        return b"".join(pieces)

    def encoded(self) -> bytes:
        """The element in DER as far as lengths and the order of SET OF go (X.690, 10.1 and 11.6)."""
        if not self.tag & _CONSTRUCTED:
            return der.tlv(self.tag, self.source.octets[self.body : self.end])
        parts = [child.encoded() for child in self.children()]
        if self.tag == der.SET:
            parts.sort()
        return der.tlv(self.tag, b"".join(parts))

    def fields(self) -> Fields:
        """The children of a SEQUENCE, to be taken in order."""
        if self.tag != der.SEQUENCE:
            raise Malformed("An ASN.1 SEQUENCE is expected where something else stands.")
        return Fields(self.children())


# A named tuple's own constructor is written in Python, and takes as long again.
_made: Final = tuple.__new__


class Fields:
    """A walk through the fields of a SEQUENCE, in the order of its definition."""

    __slots__ = ("_at", "_elements")

    def __init__(self, elements: tuple[Element, ...]) -> None:
        self._elements = elements
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether every field has been taken."""
        return self._at == len(self._elements)

    def take(self, tag: int) -> Element:
        """The next field, which has to be there. Raises Malformed."""
        element = self.maybe(tag)
        if element is None:
            raise Malformed("An ASN.1 field is missing, or of a wrong type.")
        return element

    def maybe(self, tag: int) -> Element | None:
        """The next field if it has this tag; None leaves it where it is."""
        if self._at < len(self._elements) and self._elements[self._at].tag == tag:
            self._at += 1
            return self._elements[self._at - 1]
        return None

    def skip(self) -> Element:
        """The next field, whatever it is. Raises Malformed where there is none."""
        if self.done:
            raise Malformed("An ASN.1 field is missing.")
        self._at += 1
        return self._elements[self._at - 1]

    def end(self) -> None:
        """Nothing may follow. Raises Malformed."""
        if not self.done:
            raise Malformed("An ASN.1 SEQUENCE has more fields than it should.")


def parse(octets: bytes, *, padding: bytes = b"") -> Element:
    """The one element that `octets` hold; after it only octets of `padding` may stand.

    Raises Malformed for everything else, and above `MAX_SIZE` before looking.
    """
    if len(octets) > MAX_SIZE:
        raise Malformed(f"The message is larger than {MAX_SIZE} octets.")
    element = _read(_Source(octets, MAX_ELEMENTS), 0, len(octets), 1)
    if element.stop != len(octets) and octets[element.stop :].strip(padding):
        raise Malformed("Something follows the end of the message.")
    return element


def _read(source: _Source, at: int, limit: int, depth: int) -> Element:
    """The element at `at`, which ends before `limit`. One of indefinite length is read to its end, all its children."""
    source.left -= 1
    if source.left < 0:
        raise Malformed(f"The message has more than {MAX_ELEMENTS} ASN.1 elements.")
    if depth > MAX_DEPTH:
        raise Malformed(f"The message nests deeper than {MAX_DEPTH} levels.")
    octets = source.octets
    if at + 2 > limit:
        raise Malformed("The message is truncated.")
    tag = octets[at]
    # The end-of-contents mark has no place outside an indefinite length; CMS has no tag numbers above 30.
    if tag & 0x1F == 0x1F or tag == 0:
        raise Malformed("The message has an ASN.1 tag that does not belong into it.")
    length = octets[at + 1]
    body = at + 2
    if length == _INDEFINITE:
        return _read_indefinite(source, at, limit, depth)
    if length > _INDEFINITE:
        count = length & 0x7F
        if count > 4:  # four octets of length are 4 GiB; nothing that long gets here
            raise Malformed("The message is truncated.")
        length = int.from_bytes(octets[body : body + count], "big")
        body += count
    end = body + length
    if end > limit:
        raise Malformed("The message is truncated.")
    return _made(Element, (source, tag, at, body, end, end, depth, None))


def _read_indefinite(source: _Source, at: int, limit: int, depth: int) -> Element:
    octets = source.octets
    tag = octets[at]
    if not tag & _CONSTRUCTED:
        raise Malformed("A primitive ASN.1 element has an indefinite length.")
    parts: list[Element] = []
    end = at + 2
    while octets[end : end + 2] != b"\0\0":
        child = _read(source, end, limit, depth + 1)
        parts.append(child)
        end = child.stop
    if end + 2 > limit:
        raise Malformed("The message is truncated.")
    return Element(source, tag, at, at + 2, end, end + 2, depth, tuple(parts))
