"""Writing CertReps: SUCCESS in an envelope for the request's signer, FAILURE and PENDING without any (RFC 8894, 3.3).

Everything is definite-length DER, since strongSwan reads nothing else (S85). Signing is a need; no key is here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from protocols.cms import algorithms, der, signed
from protocols.cms.certificate import Certificate
from protocols.exchange import Exchange, Refused, Reply, ask
from protocols.scep import failures
from protocols.scep.failures import Failure
from protocols.scep.messages import (
    FAIL_INFO,
    MESSAGE_TYPE,
    PKI_STATUS,
    RECIPIENT_NONCE,
    SENDER_NONCE,
    TRANSACTION_ID,
    MessageType,
    PkiMessage,
)
from protocols.scep.needs import SignAttributes

NONCE_LENGTH: Final = 64

_FAIL_INFO_TEXT: Final = der.object_identifier("1.3.6.1.5.5.7.24.1")  # RFC 8894, 3.2.1.5
_TEXT_LIMIT: Final = 255  # octets (S91)


class Dice(msgspec.Struct, frozen=True):
    """One transaction's randomness, cut from the octets that the host threw."""

    sender_nonce: bytes
    iv: bytes
    content_key: bytes  # as long as the longest; a cipher takes what it needs

    @classmethod
    def cut(cls, nonce: bytes) -> Dice:
        """16 octets of nonce, 16 of IV, 32 of key."""
        assert len(nonce) == NONCE_LENGTH
        return cls(nonce[:16], nonce[16:32], nonce[32:])


def _string(kind: bytes, value: str) -> bytes:
    return signed.attribute(kind, der.tlv(der.PRINTABLE_STRING, value.encode()))


_IS_CERT_REP: Final = _string(MESSAGE_TYPE, str(MessageType.CERT_REP.value))
_SUCCESS: Final = _string(PKI_STATUS, "0")
_FAILURE: Final = _string(PKI_STATUS, "2")
_PENDING: Final = _string(PKI_STATUS, "3")
_SENDER_NONCE: Final = signed.attribute_head(SENDER_NONCE, der.OCTET_STRING, 16)
_SIGNING_TIME: Final = signed.attribute_head(algorithms.SIGNING_TIME, der.UTC_TIME, len("yymmddhhmmssZ"))


class Answer(msgspec.Struct, frozen=True):
    """The answer to one pkiMessage, signed by the RA."""

    message: PkiMessage
    ra: Certificate
    dice: Dice
    now: datetime

    def success(self, envelope: bytes) -> Exchange[Reply]:
        """SUCCESS with what the request's signer can open."""
        return (yield from self._reply(envelope, _SUCCESS))

    def pending(self) -> Exchange[Reply]:
        """PENDING: the client polls."""
        return (yield from self._reply(None, _PENDING))

    def failure(self, fault: Failure) -> Exchange[Reply]:
        """FAILURE with its failInfo and a text; an HTTP status where the host has no time to sign it (S120)."""
        # Cut between characters, not inside one.
        text = fault.text.encode()[:_TEXT_LIMIT].decode(errors="ignore").encode()
        explained = signed.attribute(_FAIL_INFO_TEXT, der.tlv(der.UTF8_STRING, text))
        status = (_FAILURE, _string(FAIL_INFO, fault.fail_info.value), explained)
        try:
            return (yield from self._reply(None, *status, failure=True))
        except Refused as refusal:
            # A 503 says nothing of whose fault it was, and is not to be had for nothing either.
            later = failures.refused(refusal)
            return Reply(later.status, later.body, later.media_type, later.headers, wrong=True)

    def _reply(self, content: bytes | None, *status: bytes, failure: bool = False) -> Exchange[Reply]:
        # The request's own digest, which its client is sure to know (RFC 8894, 3.5.2).
        digest = self.message.signed.digest or algorithms.SHA256
        to_be_signed = signed.attributes(content, digest, (*status, *self._transaction()))
        signature = yield from ask(SignAttributes(to_be_signed, digest.name, failure))
        body = signed.build(content, digest, self.ra, to_be_signed, signature)
        # sscep compares the media type byte for byte (S14); a transaction is nobody else's business (S16).
        return Reply(200, body, "application/x-pki-message", (("Cache-Control", "no-store"),), failure)

    def _transaction(self) -> tuple[bytes, ...]:
        """What ties an answer to its question (S84)."""
        now = self.now
        # UTCTime until 2049 (RFC 5652, 11.3); by then somebody else writes this. `strftime` takes three times as long.
        time = b"%02d%02d%02d%02d%02d%02dZ" % (now.year % 100, now.month, now.day, now.hour, now.minute, now.second)
        return (
            _IS_CERT_REP,
            signed.attribute(TRANSACTION_ID, self.message.transaction_element),
            signed.attribute(RECIPIENT_NONCE, der.octet_string(self.message.sender_nonce)),
            _SENDER_NONCE + self.dice.sender_nonce,
            _SIGNING_TIME + time,
        )
