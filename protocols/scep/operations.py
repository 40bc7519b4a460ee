"""SCEP's operations over HTTP (RFC 8894, 4): one entry, `operate`, and default deny in every dispatch.

Order is part of the security: framing, then the signature, then the message type, then who the envelope is for, and
only then the RA's private key (S121, S122).
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.cms import certificate, degenerate, enveloped, signed
from protocols.cms.algorithms import ContentCipher, KeyTransport
from protocols.cms.certificate import Certificate
from protocols.cms.signed import Verdict
from protocols.exchange import Exchange, Malformed, Reason, Refused, Reply, ask
from protocols.pkix import csr
from protocols.pkix.csr import CertificationRequest
from protocols.scep import failures, messages
from protocols.scep.certrep import Answer, Dice
from protocols.scep.failures import FailInfo, Failure
from protocols.scep.messages import MessageType, PkiMessage
from protocols.scep.needs import (
    Authorities,
    CaCertificates,
    Enroll,
    Enrolled,
    Renew,
    Transaction,
    UnwrapKey,
    Waiting,
)

# Words and case as clients compare them; AES, SHA-256 and POSTPKIOperation beside SCEPStandard, which implies them,
# since jscep and sscep look for the words themselves (S18, S19). Neither "Update" (S24) nor a refused cipher (S20).
# "SHA-384" is no word of RFC 8894, and true: strongSwan's pki 5.9.8 mixes up its own flags, and finds neither AES nor
# SHA-256 in a list without it.
_CAPABILITIES: Final = ("AES", "SHA-256", "SHA-384", "SHA-512", "SHA-1", "POSTPKIOperation", "SCEPStandard")
_CAPS: Final = "\n".join(_CAPABILITIES).encode()
_CAPS_WITH_RENEWAL: Final = "\n".join(("Renewal", *_CAPABILITIES)).encode()

_UNREADABLE: Final = "The envelope is not for this RA, or holds no request that verifies with SHA-256 or stronger."


class _Terms(msgspec.Struct, frozen=True):
    """What the host gives to a transaction."""

    dice: Dice
    now: datetime
    renewal: bool


def operate(method: str, query: str, body: bytes, *, nonce: bytes, now: datetime, renewal: bool) -> Exchange[Reply]:
    """Answer one HTTP request to a pair's SCEP URL.

    `query` is the undecoded query string. `nonce` is 64 fresh random octets. `renewal` says whether the pair lets
    certificates renew themselves. Nothing is raised for anything that a client can send.
    """
    try:
        return (yield from _dispatch(method, query, body, _Terms(Dice.cut(nonce), now, renewal)))
    except Malformed as fault:
        return failures.text(HTTPStatus.BAD_REQUEST, fault.detail)
    except Refused as refusal:
        return failures.refused(refusal)


def _dispatch(method: str, query: str, body: bytes, terms: _Terms) -> Exchange[Reply]:
    operation, message = messages.parameters(query)
    match method, operation:
        # RFC 8894, 4.3: many servers never looked at the operation of a POST, so some clients send none (S5).
        case "POST", "pkioperation" | "":
            return (yield from _pki_operation(body, terms))
        case "GET", "pkioperation":
            return (yield from _pki_operation(messages.decode(message or ""), terms))
        case "GET", "getcacaps":
            return Reply(HTTPStatus.OK, _CAPS_WITH_RENEWAL if terms.renewal else _CAPS, "text/plain")
        case "GET", "getcacert":
            authorities = yield from ask(CaCertificates())
            return Reply(HTTPStatus.OK, _ca_certificates(authorities), "application/x-x509-ca-ra-cert")
        case "GET" | "POST", _:
            return failures.text(
                HTTPStatus.BAD_REQUEST,
                "The operation must be GetCACaps, GetCACert (GET) or PKIOperation (GET or POST).",
            )
        case _:
            return failures.text(HTTPStatus.METHOD_NOT_ALLOWED, "SCEP uses GET and POST.", ("Allow", "GET, POST"))


@lru_cache(maxsize=256)
def _ca_certificates(authorities: Authorities) -> bytes:
    """The RA's certificate first, then the issuing authority and all above it (S27), the same octets always (S34)."""
    return degenerate.certificates_only((authorities.ra, *authorities.chain))


_ra = lru_cache(maxsize=256)(certificate.read)


class _Request(msgspec.Struct, frozen=True):
    """What was in the envelope, and what the answer is to be closed with: the same algorithms (RFC 8894, 3.5.2)."""

    csr: CertificationRequest
    signer_key: rsa.RSAPublicKey
    same_key: bool
    cipher: ContentCipher
    transport: KeyTransport


def _pki_operation(octets: bytes, terms: _Terms) -> Exchange[Reply]:
    message = messages.read(octets)
    authorities = yield from ask(CaCertificates())
    ra = _ra(authorities.ra)
    dice, renewal = terms.dice, terms.renewal
    answer = Answer(message, ra, dice, terms.now)
    try:
        signer = _verified(message)
        kind = _type(message, signer, renewal)
        request = yield from _open(message, signer, ra)
        outcome = yield from _enroll(kind, request, message, signer, renewal)
    except Failure as fault:
        return (yield from answer.failure(fault))
    except Refused as refusal:
        told = failures.failure(refusal)
        if told is None:
            raise
        return (yield from answer.failure(told))
    if isinstance(outcome, Waiting):
        return (yield from answer.pending())
    # To the request's signer and to nobody else: for a renewal that is the old key (S86, S92).
    envelope = enveloped.encrypt(
        degenerate.certificates_only((outcome.certificate, *outcome.include)),
        signer,
        request.signer_key,
        request.cipher,
        request.transport,
        key=dice.content_key[: request.cipher.key_length],
        iv=dice.iv,
    )
    return (yield from answer.success(envelope))


def _verified(message: PkiMessage) -> Certificate:
    """The signer, once the signature is known to be theirs. Raises Failure."""
    verdict = signed.verify(message.signed)
    if verdict is Verdict.UNSUPPORTED:
        raise Failure(
            FailInfo.BAD_ALG,
            "Sign with RSA of 2048 to 8192 bits or ECDSA, and with SHA-256, SHA-384, SHA-512 or SHA-1.",
        )
    signer = message.signed.signer
    if verdict is not Verdict.VALID or signer is None:
        raise Failure(
            FailInfo.BAD_MESSAGE_CHECK, "The message's signature does not verify with a certificate that it carries."
        )
    return signer


def _type(message: PkiMessage, signer: Certificate, renewal: bool) -> MessageType:
    """The message type, if it is one that leads to a certificate. Everything else fails, known or not (S58, S59)."""
    match message.type:
        case MessageType.PKCS_REQ:
            return MessageType.PKCS_REQ
        case MessageType.RENEWAL_REQ if not renewal:
            raise Failure(FailInfo.BAD_REQUEST, "Renewal by certificate is not allowed here; send a PKCSReq.")
        case MessageType.RENEWAL_REQ if signer.self_issued:  # S66
            raise Failure(FailInfo.BAD_REQUEST, "Sign a RenewalReq with the certificate that is to be renewed.")
        case MessageType.RENEWAL_REQ:
            return MessageType.RENEWAL_REQ
        case MessageType.CERT_POLL:  # S72: no transaction waits, so none is known
            raise Failure(FailInfo.BAD_CERT_ID, "No transaction with this transactionID is waiting.")
        case _:
            raise Failure(FailInfo.BAD_REQUEST, "Only PKCSReq and RenewalReq are answered here.")


def _open(message: PkiMessage, signer: Certificate, ra: Certificate) -> Exchange[_Request]:
    """Open the envelope. That costs a private-key operation, so what can be refused without one is refused before."""
    key = signer.key()
    if not isinstance(key, rsa.RSAPublicKey):  # S89: nothing could be encrypted to it
        raise Failure(FailInfo.BAD_ALG, "Sign with an RSA key: the answer is encrypted to it.")
    try:
        envelope = enveloped.parse(message.signed.content or b"")
    except Malformed as fault:
        raise Failure(FailInfo.BAD_REQUEST, fault.detail) from None
    if envelope.cipher is None:
        raise Failure(FailInfo.BAD_ALG, "Encrypt with AES-128-CBC, AES-192-CBC or AES-256-CBC.")
    recipient = envelope.recipient(ra)
    if recipient is None:
        raise Failure(FailInfo.BAD_MESSAGE_CHECK, _UNREADABLE)
    if recipient.transport is None:
        raise Failure(FailInfo.BAD_ALG, "Encrypt to the RA with RSA PKCS #1 v1.5, or OAEP with SHA-1 or SHA-256.")
    content_key = yield from ask(UnwrapKey(recipient.wrapped, recipient.transport.name, envelope.cipher.key_length))
    request = _certification_request(enveloped.decrypt(envelope, envelope.cipher, content_key), signer, key)
    same_key = request.spki == signer.spki or (
        # As `csr.spki` is encoded, which need not be how the certificate encodes it.
        request.spki == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return _Request(request, key, same_key, envelope.cipher, recipient.transport)


def _certification_request(content: bytes, signer: Certificate, key: rsa.RSAPublicKey) -> CertificationRequest:
    """Read the decrypted content. Whatever a wrong key could have made of it has one answer (S122)."""
    try:
        return csr.parse(content, (signer.spki, key))
    except Malformed as fault:
        detail = fault.detail
    except Refused as refusal:
        # A weak key is found before the signature is looked at: who bends the bits of another's envelope must not
        # learn from it that what came out still parses.
        if refusal.reason is not Reason.BAD_CSR and _verifies(content):
            raise
        detail = refusal.detail
    if _verifies(content):  # so it was read as its sender meant it, and may be spoken about: S64 and the like
        raise Failure(FailInfo.BAD_REQUEST, detail)
    raise Failure(FailInfo.BAD_MESSAGE_CHECK, _UNREADABLE)


def _verifies(content: bytes) -> bool:
    try:
        return x509.load_der_x509_csr(content).is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False


def _enroll(
    kind: MessageType, request: _Request, message: PkiMessage, signer: Certificate, renewal: bool
) -> Exchange[Enrolled | Waiting]:
    asked = request.csr
    transaction = Transaction(message.transaction_id, signer.spki_sha256)
    if kind is MessageType.RENEWAL_REQ:
        return (yield from ask(Renew(asked, signer.encoded, transaction)))
    if request.same_key and (asked.challenge is not None or signer.self_issued or not renewal):
        return (yield from ask(Enroll(asked, asked.challenge, transaction)))
    # sscep and macOS renew with a PKCSReq that the old certificate signed (S69): judged as the renewal that it is.
    if renewal and not signer.self_issued:
        return (yield from ask(Renew(asked, signer.encoded, transaction)))
    # S61: the outer signature is the proof of possession of the key that a certificate is asked for.
    raise Failure(FailInfo.BAD_REQUEST, "Sign the message with the key of the certification request.")
