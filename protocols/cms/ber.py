"""Reading BER under limits, lazily: an element's children are looked at only when somebody asks.

BER and not DER, because Apple's clients send indefinite lengths and OCTET STRINGs in pieces (S39). Nothing here may
recurse, or walk, further than the limits allow, whatever the bytes say; what is not well formed is `Malformed`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import msgspec

from protocols.cms import der
from protocols.exchange import Malformed

MAX_SIZE: Final = 256 * 1024  # octets of a whole message (S52)
MAX_DEPTH: Final = 16  # a SCEP message is nine deep; constructed strings add one or two (S52)
# Elements visited of one message. A real one shows about a hundred; a client that cuts 256 KiB into pieces of 128
# octets still fits. Without this, 256 KiB of empty elements would cost a tenth of a second.
MAX_ELEMENTS: Final = 4096

_CONSTRUCTED: Final = 0x20
_INDEFINITE: Final = 0x80
_TWO_OCTETS: Final = 0x82
# Tags of one octet that may begin an element.
PLAIN: Final = frozenset(tag for tag in range(1, 256) if tag & 0x1F != 0x1F)


class Field(NamedTuple):
    """A field that a SEQUENCE has, in the order of its definition. `tag` None stands for any.

    One that is `needed` must be there; one that is not `wanted` is passed over, as long as it has its tag.
    """

    tag: int | None
    needed: bool = True
    wanted: bool = True


Shape: TypeAlias = tuple[Field, ...]


class Source(msgspec.Struct, gc=False):
    """The octets being read, and how many elements may still be visited."""

    octets: bytes
    left: int


class Element(msgspec.Struct, frozen=True, gc=False):
    """One element. Offsets are into the message; `parts` are the children where the length is indefinite.

    Made in C, and never looked at for cycles, of which it can have none: some fifty are made for each message.
    """

    source: Source
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
    def inside(self) -> bytes:
        """What it holds, as it was received."""
        return self.source.octets[self.body : self.end]

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
            if quick > 0 and body <= end and octets[at] in PLAIN and (length := octets[at + 1]) < _INDEFINITE:
                stop = body + length
                if stop <= end:
                    source.left = quick = quick - 1
                    found.append(Element(source, octets[at], at, body, stop, stop, depth, None))
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

    def fields(self, shape: Shape) -> list[Element]:
        """The wanted fields of a SEQUENCE of this shape, `ABSENT` for one that is not there. Raises Malformed."""
        if self.tag != der.SEQUENCE:
            raise Malformed("An ASN.1 SEQUENCE is expected where something else stands.")
        if self.parts is not None:
            return _matched(self.parts, shape)
        source, at, end, depth = self.source, self.body, self.end, self.depth + 1
        octets, found = source.octets, []
        quick = source.left if depth <= MAX_DEPTH else 0  # as in `children`
        for tag, needed, wanted in shape:
            if at >= end or (tag is not None and octets[at] != tag):
                if needed:
                    raise Malformed("An ASN.1 field is missing, or of a wrong type.")
                if wanted:
                    found.append(ABSENT)
                continue
            # Lengths of one octet and of three are nearly all that there are; to call `_read` takes twice as long.
            body, stop = at + 2, end + 1
            if quick > 0 and tag is not None and body + 2 <= end:
                length = octets[at + 1]
                if length < _INDEFINITE:
                    stop = body + length
                elif length == _TWO_OCTETS:
                    body += 2
                    stop = body + (octets[at + 2] << 8 | octets[at + 3])
            if stop <= end:
                source.left = quick = quick - 1
                if wanted:
                    found.append(Element(source, octets[at], at, body, stop, stop, depth, None))
            else:
                element = _read(source, at, end, depth)
                quick, stop = source.left, element.stop
                if wanted:
                    found.append(element)
            at = stop
        if at < end:
            raise Malformed("An ASN.1 SEQUENCE has more fields than it should.")
        return found


ABSENT: Final = Element(Source(b"", 0), 0, 0, 0, 0, 0, 0, None)
"""The field that is not there: of tag 0, which no element has."""


def _matched(elements: tuple[Element, ...], shape: Shape) -> list[Element]:
    """`Element.fields` of elements that have been read."""
    found, at = [], 0
    for tag, needed, wanted in shape:
        here = at < len(elements) and tag in (None, elements[at].tag)
        if needed and not here:
            raise Malformed("An ASN.1 field is missing, or of a wrong type.")
        if wanted:
            found.append(elements[at] if here else ABSENT)
        at += here
    if at < len(elements):
        raise Malformed("An ASN.1 SEQUENCE has more fields than it should.")
    return found


def parse(octets: bytes, *, padding: bytes = b"") -> Element:
    """The one element that `octets` hold; after it only octets of `padding` may stand.

    Raises Malformed for everything else, and above `MAX_SIZE` before looking.
    """
    if len(octets) > MAX_SIZE:
        raise Malformed(f"The message is larger than {MAX_SIZE} octets.")
    element = _read(Source(octets, MAX_ELEMENTS), 0, len(octets), 1)
    if element.stop != len(octets) and octets[element.stop :].strip(padding):
        raise Malformed("Something follows the end of the message.")
    return element


def _read(source: Source, at: int, limit: int, depth: int) -> Element:
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
    return Element(source, tag, at, body, end, end, depth, None)


def _read_indefinite(source: Source, at: int, limit: int, depth: int) -> Element:
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
