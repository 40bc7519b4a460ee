"""EST's operations (RFC 7030, 4): one entry, `operate`. What is not named (operation, method, credential) is refused.

Order: what exists, over TLS only, by the right method; then who asks; and only then what is asked.
"""

from __future__ import annotations

from enum import StrEnum, unique
from functools import lru_cache
from http import HTTPStatus
from typing import Final, assert_never

from protocols.est import failures, messages
from protocols.est.messages import Caller
from protocols.est.needs import (
    AuthenticateCertificate,
    AuthenticateUser,
    CaCertificates,
    Enroll,
    Identity,
    Waiting,
)
from protocols.exchange import Exchange, Malformed, Reason, Refused, Reply, ask
from protocols.pkix import certificate
from protocols.pkix.csr import CertificationRequest


@unique
class Operation(StrEnum):
    """The last segment of the path (RFC 7030, 3.2.2)."""

    CA_CERTS = "cacerts"
    SIMPLE_ENROLL = "simpleenroll"
    SIMPLE_REENROLL = "simplereenroll"
    CSR_ATTRS = "csrattrs"
    SERVER_KEY_GEN = "serverkeygen"
    FULL_CMC = "fullcmc"


_READ: Final = frozenset({Operation.CA_CERTS, Operation.CSR_ATTRS})
_OPERATIONS: Final = {operation.value: operation for operation in Operation}

# libest decodes a body only under this header, BouncyCastle likewise; RFC 8951 has everyone else ignore it.
_BASE64: Final = ("Content-Transfer-Encoding", "base64")
_NO_STORE: Final = ("Cache-Control", "no-store")

# Why a certificate was not accepted. Everything else that the host refuses is not about the certificate.
_CERTIFICATE_REFUSED: Final = frozenset({Reason.UNAUTHENTICATED, Reason.FORBIDDEN, Reason.REVOKED, Reason.EXPIRED})


def operate(
    operation: str, method: str, caller: Caller, *, media_type: str | None, body: bytes, wrap: int, realm: str
) -> Exchange[Reply]:
    """Answer one request to a pair's EST URL.

    `operation` is the last path segment, decoded. `wrap` is 0, 64 or 76 (E28); `realm` is for Basic. For HEAD the
    answer is that of GET; the host leaves its body out. Nothing is raised for anything that a client can send.
    """
    known = _OPERATIONS.get(operation)
    if known is None:
        return failures.text(HTTPStatus.NOT_FOUND, "There is no such EST operation.")
    if not caller.secure:  # E9: no challenge, or a client would send its passphrase in the clear
        return failures.text(HTTPStatus.FORBIDDEN, "EST is answered over HTTPS only.")
    allowed = ("GET", "HEAD") if known in _READ else ("POST",)
    if method not in allowed:
        allow = ", ".join(allowed)
        return failures.text(HTTPStatus.METHOD_NOT_ALLOWED, f"Use {allow} for {known}.", ("Allow", allow))
    try:
        match known:
            case Operation.CA_CERTS:
                return (yield from _ca_certs(wrap))
            case Operation.CSR_ATTRS:
                return Reply(HTTPStatus.NO_CONTENT)  # E71: nothing is asked of requests beyond what the policy judges
            case Operation.SIMPLE_ENROLL:
                identity = yield from _authenticate(caller)
                return (yield from _enroll(identity, media_type, body, wrap, renewed=None))
            case Operation.SIMPLE_REENROLL:
                renewed = _presented(caller)
                identity = yield from ask(AuthenticateCertificate(renewed))
                return (yield from _enroll(identity, media_type, body, wrap, renewed=renewed))
            case Operation.SERVER_KEY_GEN | Operation.FULL_CMC:  # E79, E87; 404 since libest knows no 501
                return failures.text(HTTPStatus.NOT_FOUND, f"{known} is not offered here.")
            case _:
                assert_never(known)
    except Malformed as fault:
        return failures.text(HTTPStatus.BAD_REQUEST, fault.detail)
    except Refused as refusal:
        return failures.refused(refusal, realm)


def _ca_certs(wrap: int) -> Exchange[Reply]:
    """To anyone, whatever credentials they send (E26): this is how a client comes to trust the server at all."""
    certificates = yield from ask(CaCertificates())
    return Reply(HTTPStatus.OK, _ca_certificates(certificates, wrap), messages.PKCS7, (_BASE64,))


# The answer is the same for each client, so it is built once (E27).
_ca_certificates = lru_cache(maxsize=256)(messages.certs_only)


def _authenticate(caller: Caller) -> Exchange[Identity]:
    """A certificate of this pair or the passphrase; either is enough (RFC 7030, 3.2.3). Raises Refused.

    The certificate comes first because it costs a look-up, a passphrase a slow hash. One that is not accepted is no
    obstacle: a TLS client may send whichever it has.
    """
    if caller.certificate is not None:
        try:
            return (yield from ask(AuthenticateCertificate(caller.certificate)))
        except Refused as refusal:
            if refusal.reason not in _CERTIFICATE_REFUSED:
                raise
    if caller.authorization is None:
        raise Refused(Reason.UNAUTHENTICATED, "Send user and passphrase by HTTP Basic, or present a certificate.")
    credentials = messages.basic(caller.authorization)
    if credentials is None:
        raise Refused(Reason.UNAUTHENTICATED, "The Authorization header is not HTTP Basic in UTF-8.")
    identity = yield from ask(AuthenticateUser(credentials.user, credentials.passphrase))
    if identity is None:
        raise Refused(Reason.UNAUTHENTICATED, "User or passphrase is wrong.")
    return identity


def _presented(caller: Caller) -> bytes:
    if caller.certificate is None:  # E59
        raise Refused(Reason.FORBIDDEN, "Present the certificate that is to be renewed in the TLS handshake.")
    return caller.certificate


def _same_names(request: CertificationRequest, presented: bytes) -> None:
    """Subject and alternative names are those of the certificate, none more, none less (RFC 7030, 4.2.2; E63, E64)."""
    old = certificate.read(presented)
    if request.subject != old.subject:
        raise Refused(Reason.NAME_MISMATCH, "The request's subject is not that of the certificate presented.")
    if frozenset(request.sans or ()) != frozenset(old.sans or ()):
        raise Refused(
            Reason.NAME_MISMATCH, "The request's subject alternative names are not those of the certificate presented."
        )


def _enroll(
    identity: Identity, media_type: str | None, body: bytes, wrap: int, *, renewed: bytes | None
) -> Exchange[Reply]:
    if not messages.is_pkcs10(media_type):
        return failures.text(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the request as application/pkcs10.")
    request = messages.request(body)
    if renewed is not None:
        _same_names(request, renewed)
    outcome = yield from ask(Enroll(request, identity, renewed is not None))
    if isinstance(outcome, Waiting):  # E51: seconds, since libest reads no date
        retry_after = ("Retry-After", str(outcome.retry_after))
        return failures.text(HTTPStatus.ACCEPTED, "The request waits for approval; send it again later.", retry_after)
    # E40: the certificate alone. RFC 7030, 4.2.3 allows no other, and globalsign's client refuses them.
    body = messages.certs_only((outcome.certificate,), wrap)
    return Reply(HTTPStatus.OK, body, messages.CERTS_ONLY, (_BASE64, _NO_STORE))
