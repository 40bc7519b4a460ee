"""PEM, strictly (RFC 7468, 3): written in one way only, read under a cap, never guessed at.

Text outside the boundaries is refused: in a request it is a sign of a file that its sender did not mean.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterable
from typing import Final

from protocols.exchange import Malformed

CERTIFICATE: Final = "CERTIFICATE"
REQUEST: Final = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
"""RFC 7468, 7: the second is what old tools write."""

_BLOCK: Final = re.compile(
    rb"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n([A-Za-z0-9+/=\r\n \t]+?)\r?\n-----END \1-----[ \t]*(?:\r?\n|\Z)"
)


def encode(label: str, der: bytes) -> bytes:
    """One block, lines of 64 characters, a line feed after the last."""
    text = binascii.b2a_base64(der, newline=False)
    lines = b"\n".join([text[at : at + 64] for at in range(0, len(text), 64)])
    name = label.encode()
    return b"-----BEGIN " + name + b"-----\n" + lines + b"\n-----END " + name + b"-----\n"


def encode_certificates(chain: Iterable[bytes]) -> bytes:
    """Certificates one after the other (RFC 8555, 9.1)."""
    return b"".join([encode(CERTIFICATE, der) for der in chain])


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
        block = _BLOCK.match(text, at)
        if block is None:
            raise Malformed("The text is not PEM (RFC 7468): -----BEGIN …-----, base64, -----END …-----.")
        label = block[1].decode()
        if label not in labels:
            raise Malformed(f"The PEM block is a {label}; {' or '.join(labels)} is expected.")
        if len(found) == count:
            raise Malformed(f"The text has more than {count} PEM blocks.")
        found.append(_base64(b"".join(block[2].split())))
        at = block.end()
    if not found:
        raise Malformed("The text is empty where PEM is expected.")
    return tuple(found)


def _base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise Malformed("The PEM block's base64 is not valid.") from None
