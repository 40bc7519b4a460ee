"""Reading credentials and request bodies, writing certs-only answers (RFC 7030, 4; RFC 8951).

Base64 is read generously, since clients wrap it, pad it with white space, armour it or leave it out (E31-E36), and
written as the pair wants it (E28). Nothing is decided here.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final

import msgspec

from protocols.cms import degenerate
from protocols.exchange import Malformed
from protocols.pkix import csr, pem
from protocols.pkix.csr import CertificationRequest

CERTS_ONLY: Final = "application/pkcs7-mime; smime-type=certs-only"  # libest compares this octet for octet (E40)
PKCS7: Final = "application/pkcs7-mime"

_PKCS10: Final = "application/pkcs10"
_WHITE_SPACE: Final = b" \t\r\n"
# What a request of the largest size that is read can take in base64, generously wrapped, or in PEM.
_TEXT_LIMIT: Final = 64 * 1024


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as the connection and the headers tell.

    `secure`: the request came over TLS. `certificate`: the TLS peer's, DER, if it sent one. `authorization`: the
    header's value, if there is one.
    """

    secure: bool
    certificate: bytes | None
    authorization: str | None


class Basic(msgspec.Struct, frozen=True):
    """User name, which may be empty, and passphrase (RFC 7617, 2)."""

    user: str
    passphrase: str


def basic(authorization: str) -> Basic | None:
    """The credentials of an Authorization header; None if they are not well-formed Basic ones in UTF-8."""
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, passphrase = binascii.a2b_base64(token.strip(), strict_mode=True).decode().partition(":")
    except ValueError:
        return None
    return Basic(user, passphrase) if colon else None


def is_pkcs10(media_type: str | None) -> bool:
    """Whether a Content-Type is application/pkcs10, in any case and with any parameters (E37)."""
    return media_type is not None and media_type.partition(";")[0].strip().lower() == _PKCS10


def request(body: bytes) -> CertificationRequest:
    """The certification request in a body: base64 of DER, raw DER, or PEM. Raises Malformed, Refused.

    No Content-Transfer-Encoding is asked for: RFC 8951 has it ignored, whatever it says (E34).
    """
    # A request is longer than 127 octets, so DER begins with the long form of a length; base64 text never does.
    if len(body) > 1 and body[0] == 0x30 and body[1] & 0x80:
        return csr.parse(body)
    if body.lstrip(_WHITE_SPACE).startswith(b"-----BEGIN"):
        return csr.parse(pem.decode_request(body, limit=_TEXT_LIMIT))
    if len(body) > _TEXT_LIMIT:
        raise Malformed("The request is too large.", field="csr")
    try:
        der = binascii.a2b_base64(body.translate(None, _WHITE_SPACE), strict_mode=True)
    except ValueError:
        raise Malformed("The body is not base64 of a PKCS#10 request (RFC 8951, 3.1).", field="csr") from None
    return csr.parse(der)


def certs_only(certificates: Sequence[bytes], wrap: int) -> bytes:
    """Base64 of a certs-only message: in one line without an end (0), or wrapped at 64 with LF, or 76 with CRLF (E28).

    A SET OF is sorted in DER, and strict readers insist on it, since here no order means anything (E23).
    strongSwan before 5.9.11 wants no white space at all, libest no line without an end.
    """
    text = binascii.b2a_base64(degenerate.certificates_only(sorted(certificates)), newline=False)
    if not wrap:
        return text
    end = b"\r\n" if wrap == 76 else b"\n"
    return b"".join(text[at : at + wrap] + end for at in range(0, len(text), wrap))
