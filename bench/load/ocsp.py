"""OCSP (RFC 6960): one question by GET, answered from what is kept, or with a nonce by POST, which must be signed."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from bench.load.conversation import Answer, Conversation, Failed, Origin, expect
from bench.load.loop import Player
from bench.load.trust import Trust
from protocols.cms import der

_MODEL_NONCE: Final = bytes(32)
_UNKNOWN: Final = b"\x82"  # CertStatus: [2] IMPLICIT NULL


@dataclass(frozen=True, slots=True)
class Ocsp:
    """Clients of the responder at `url`, asking about one certificate; both are DER. `nonce`: a new one each time."""

    url: str
    trust: Trust
    certificate: bytes
    issuer: bytes
    nonce: bool = False
    fresh: bool = False

    def players(self, count: int, ahead: int) -> list[Player]:
        """Clients that have nothing of their own; there is nothing to prepare."""
        del ahead
        return [Asking(self) for _ in range(count)]


class Asking:
    """One client."""

    def __init__(self, fleet: Ocsp) -> None:
        origin = Origin(fleet.url)
        self._model = question(fleet.certificate, fleet.issuer, _MODEL_NONCE if fleet.nonce else b"")
        self._named = _named(self._model)
        self._nonce = fleet.nonce
        # RFC 6960, A.1: the question is one segment of the path, so its slashes are escaped.
        encoded = quote(base64.b64encode(self._model).decode("ascii"), safe="")
        self._get = origin.ask("GET", f"{fleet.url.rstrip('/')}/{encoded}")
        self._post = origin.head("POST", fleet.url, "Content-Type: application/ocsp-request")

    def introduce(self) -> Conversation[None]:
        """Nothing comes before a question."""
        yield from ()

    def enroll(self) -> Conversation[None]:
        """One status."""
        if not self._nonce:
            _check(expect((yield self._get), 200), self._named)
            return
        nonce = os.urandom(len(_MODEL_NONCE))
        answer = expect((yield self._post.with_body(self._model.replace(_MODEL_NONCE, nonce))), 200)
        _check(answer, self._named)
        if nonce not in answer.body:
            raise Failed("the answer has another nonce")


def question(certificate: bytes, issuer: bytes, nonce: bytes = b"") -> bytes:
    """An OCSPRequest, DER; both certificates are DER."""
    about, authority = x509.load_der_x509_certificate(certificate), x509.load_der_x509_certificate(issuer)
    builder = ocsp.OCSPRequestBuilder().add_certificate(about, authority, SHA1())
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _named(asked: bytes) -> bytes:
    """A question's CertID as it stands in the answer (RFC 6960, 4.1.1), without the digest's AlgorithmIdentifier.

    Of that a NULL may be left out.
    """
    read = ocsp.load_der_ocsp_request(asked)
    number = read.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, signed=True)
    return b"".join(
        (
            der.tlv(der.OCTET_STRING, read.issuer_name_hash),
            der.tlv(der.OCTET_STRING, read.issuer_key_hash),
            der.tlv(der.INTEGER, serial),
        )
    )


def _check(answer: Answer, named: bytes) -> None:
    # An OCSPResponse that was successful: SEQUENCE, its length, ENUMERATED 0 (RFC 6960, 4.2.1).
    if answer.body[4:7] != b"\x0a\x01\x00":
        raise Failed(f"the response is not a success: {answer.body[:60]!r}")
    # A response's bytes are searched, not parsed: that would cost the driver more than its question. Behind the CertID
    # stands the CertStatus (4.2.1); whose issuer is not the responder's is `unknown` there, under the CertID as asked.
    at = answer.body.find(named)
    if at < 0:
        raise Failed("the answer is about another certificate")
    if answer.body[at + len(named) :][:1] == _UNKNOWN:
        raise Failed("the responder does not know the certificate, or not under this issuer")
