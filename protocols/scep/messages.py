"""Reading what clients send: the query of a GET or POST, and the pkiMessage around a request (RFC 8894, 3 and 4).

Nothing is verified or decrypted here, and nothing is answered.
"""

from __future__ import annotations

import binascii
from enum import IntEnum, unique
from typing import Final
from urllib.parse import unquote

import msgspec

from protocols.cms import ber, der, signed
from protocols.cms.signed import SignedMessage
from protocols.exchange import Malformed


@unique
class MessageType(IntEnum):
    """RFC 8894, 3.2.1.2. What is not listed is refused, and so is 18, a draft's UpdateReq (S58)."""

    CERT_REP = 3
    RENEWAL_REQ = 17
    PKCS_REQ = 19
    CERT_POLL = 20
    GET_CERT = 21
    GET_CRL = 22


def _attribute(number: int) -> bytes:
    return der.object_identifier(f"2.16.840.1.113733.1.9.{number}")  # VeriSign's arc (RFC 8894, 3.2.1)


MESSAGE_TYPE: Final = _attribute(2)
PKI_STATUS: Final = _attribute(3)
FAIL_INFO: Final = _attribute(4)
SENDER_NONCE: Final = _attribute(5)
RECIPIENT_NONCE: Final = _attribute(6)
TRANSACTION_ID: Final = _attribute(7)

_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_TEXT_STRINGS: Final = (der.PRINTABLE_STRING, der.UTF8_STRING, der.IA5_STRING, der.TELETEX_STRING)  # S54


class PkiMessage(msgspec.Struct, frozen=True):
    """A pkiMessage whose signature is not verified yet.

    `type` is None where it is no number that could be a type. `transaction_id` holds the octets of the id;
    `transaction_element` the whole element, to be echoed as it came. `sender_nonce` is 1 to 64 octets.
    """

    signed: SignedMessage
    type: int | None
    transaction_id: bytes
    transaction_element: bytes
    sender_nonce: bytes


def read(octets: bytes) -> PkiMessage:
    """Read a pkiMessage and the attributes that each must have (S42, S53, S54). Raises Malformed."""
    message = signed.parse(octets)
    tag, identifier = _text(message, TRANSACTION_ID, "transactionID")
    if not 1 <= len(identifier) <= 255 or identifier.translate(None, _PRINTABLE):
        raise Malformed("The transactionID must be 1 to 255 printable characters.", field="transactionID")
    _, number = _text(message, MESSAGE_TYPE, "messageType")
    nonce = _value(message, SENDER_NONCE, "senderNonce")
    if nonce.tag != der.OCTET_STRING or not 1 <= len(nonce.contents) <= 64:
        raise Malformed("The senderNonce must be an OCTET STRING of 1 to 64 octets.", field="senderNonce")
    kind = int(number) if number.isdigit() and len(number) <= 3 else None
    return PkiMessage(message, kind, identifier, der.tlv(tag, identifier), nonce.contents)


def _value(message: SignedMessage, kind: bytes, name: str) -> ber.Element:
    values = message.attributes.get(kind, ())
    if len(values) != 1:
        raise Malformed(f"The signed attribute {name} must be there, with one value.", field=name)
    return values[0]


def _text(message: SignedMessage, kind: bytes, name: str) -> tuple[int, bytes]:
    value = _value(message, kind, name)
    if value.tag not in _TEXT_STRINGS:
        raise Malformed(f"The signed attribute {name} must be a PrintableString.", field=name)
    return value.tag, value.contents


def parameters(query: str) -> tuple[str, str | None]:
    """The `operation`, in lower case, and the `message`, still encoded, of an undecoded query string (S4, S23).

    Names are matched in any case and order, the first one counts, and others are ignored. No operation is "".
    """
    found: dict[str, str] = {}
    for pair in query.split("&"):
        # Only the first "=": base64 ends with more of them, which macOS does not escape (S99).
        name, _, value = pair.partition("=")
        found.setdefault(name.lower(), value)
    return unquote(found.get("operation", "")).strip().lower(), found.get("message")


_UNWRAPPED: Final = str.maketrans("-_", "+/", "\r\n\t")


def decode(message: str) -> bytes:
    """The pkiMessage in a GET's `message`, through every way in which clients write base64 (S94-S99).

    Raises Malformed.
    """
    # RFC 3986's decoding, where "+" stays "+": macOS sends it raw (S95). Twice, since some clients escape twice (S98).
    for _ in range(2):
        if "%" not in message:
            break
        message = unquote(message, encoding="latin-1")
    message = message.translate(_UNWRAPPED)  # base64url (S97) and line breaks (S96)
    if " " not in message:
        return _base64(message)
    # A space was white space, or a "+" that somebody on the way took for one. Only one of them leaves a whole message.
    for meaning in ("", "+"):
        try:
            octets = _base64(message.replace(" ", meaning))
            ber.parse(octets, padding=b"\0\r\n")
        except Malformed:
            continue
        return octets
    raise Malformed("The message parameter is not base64 of a CMS message.", field="message")


def _base64(text: str) -> bytes:
    bare = text.rstrip("=")
    try:
        octets = binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except ValueError:
        raise Malformed("The message parameter is not base64.", field="message") from None
    if not octets:
        raise Malformed("The message parameter is empty.", field="message")
    return octets
