"""PEM, strictly (RFC 7468, 3): written in one way only, read under a cap, never guessed at.

Text outside the boundaries is refused: in a request it is a sign of a file that its sender did not mean.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from struct import unpack
from typing import Final

from protocols.exchange import Malformed

CERTIFICATE: Final = "CERTIFICATE"
REQUEST: Final = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
"""RFC 7468, 7: the second is what old tools write."""

# As OpenSSL and nearly every library write one: nothing around it, line feeds alone. Without the expressions and the
# passes over the text below, which tell what is wrong with another, it takes a quarter of the time.
_USUAL_BEGIN: Final = b"-----BEGIN CERTIFICATE REQUEST-----\n"
_USUAL_END: Final = b"\n-----END CERTIFICATE REQUEST-----\n"

_BEGIN: Final = re.compile(rb"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n")
_AFTER: Final = re.compile(rb"[ \t]*(?:\r?\n|\Z)")
_CONTENT: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n \t"
_WHITE_SPACE: Final = b"\r\n \t"


def encode(label: str, der: bytes) -> bytes:
    """One block, lines of 64 characters, a line feed after the last."""
    text = binascii.b2a_base64(der, newline=False)
    # Cut in one call: a certificate has a good dozen lines, and as a slice each they took six times as long.
    full = max(len(text) - 1, 0) // 64
    lines = b"\n".join(unpack("64s" * full + f"{len(text) - 64 * full}s", text))
    name = label.encode()
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (name, lines, name)


def encode_certificates(chain: Iterable[bytes]) -> bytes:
    """Certificates one after the other (RFC 8555, 9.1)."""
    return b"".join([encode(CERTIFICATE, der) for der in chain])


# What stands above leaves: a few for each authority, written with every certificate that it issues.
@lru_cache(maxsize=256)
def encode_authorities(chain: tuple[bytes, ...]) -> bytes:
    """As `encode_certificates`, remembered: for the certificates of authorities, and never for leaves."""
    return encode_certificates(chain)


def decode_request(text: bytes, *, limit: int) -> bytes:
    """The DER of one certification request; raises as `decode` does."""
    if len(text) <= limit and text.startswith(_USUAL_BEGIN) and text.endswith(_USUAL_END):
        lines = text[len(_USUAL_BEGIN) : -len(_USUAL_END)]
        # Strict base64 has no octet of a boundary in it, so that this is the one block that there is.
        with suppress(binascii.Error):
            if der := binascii.a2b_base64(lines.replace(b"\n", b""), strict_mode=True):
                return der
    return decode(text, REQUEST, limit=limit)[0]


def decode(text: bytes, labels: Collection[str], *, limit: int, count: int = 1) -> tuple[bytes, ...]:
    """The DER of 1 to `count` blocks, each with one of `labels`, in at most `limit` octets of text.

    Raises:
        Malformed: anything else.
    """
    if len(text) > limit:
        raise Malformed(f"The PEM text has {len(text)} octets; at most {limit} are accepted.")
    found: list[bytes] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        name, content, at = _block(text, at)
        label = name.decode()
        if label not in labels:
            raise Malformed(f"The PEM block is a {label}; {' or '.join(labels)} is expected.")
        if len(found) == count:
            raise Malformed(f"The text has more than {count} PEM blocks.")
        found.append(_base64(content.translate(None, _WHITE_SPACE)))
    if not found:
        raise Malformed("The text is empty where PEM is expected.")
    return tuple(found)


def _block(text: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Label, content and end of the block at `at`. An expression for all of it would look at each octet for itself."""
    begin = _BEGIN.match(text, at)
    if begin is not None:
        boundary = b"\n-----END %b-----" % begin[1]
        end = text.find(boundary, begin.end())
        content = text[begin.end() : end]
        after = _AFTER.match(text, end + len(boundary))
        if end >= 0 and content and not content.translate(None, _CONTENT) and after is not None:
            return begin[1], content, after.end()
    raise Malformed("The text is not PEM (RFC 7468): -----BEGIN …-----, base64, -----END …-----.")


def _base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise Malformed("The PEM block's base64 is not valid.") from None
