"""OCSP drivers: one question by GET, answered from what is kept, and one with a nonce by POST, which must be signed."""

from __future__ import annotations

import base64
import os
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from bench.load.closed_loop import Client
from bench.load.wire import Answer, Connection


def kept(http: str) -> Client:
    """A client that asks for the same certificate's status, again and again. `http` is the plain listener's origin."""
    connection = Connection(http)
    url = "/ocsp/root/" + quote(base64.b64encode(_question(connection).build().public_bytes(Encoding.DER)), safe="")

    def ask() -> None:
        _check(connection.send("GET", url))

    return Client(ask, connection.close)


def signed(http: str) -> Client:
    """A client whose questions have a nonce each."""
    connection = Connection(http)
    question = _question(connection).add_extension(x509.OCSPNonce(bytes(32)), critical=False)
    model = question.build().public_bytes(Encoding.DER)
    headers = ("Content-Type: application/ocsp-request",)

    def ask() -> None:
        _check(connection.send("POST", "/ocsp/root", model.replace(bytes(32), os.urandom(32)), headers))

    return Client(ask, connection.close)


def question(issuing: bytes, root: bytes, nonce: bytes = b"") -> bytes:
    """An OCSPRequest for an authority's certificate; both are DER."""
    builder = _about(issuing, root)
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _question(connection: Connection) -> ocsp.OCSPRequestBuilder:
    """About the certificate of the authority `issuing`, which every gateway has."""
    return _about(*(connection.send("GET", f"/ca/{name}.crt").body for name in ("issuing", "root")))


def _about(issuing: bytes, root: bytes) -> ocsp.OCSPRequestBuilder:
    authority, issuer = x509.load_der_x509_certificate(issuing), x509.load_der_x509_certificate(root)
    return ocsp.OCSPRequestBuilder().add_certificate(authority, issuer, SHA1())


def _check(answer: Answer) -> None:
    # An OCSPResponse that was successful: SEQUENCE, its length, ENUMERATED 0 (RFC 6960, 4.2.1).
    if answer.status != 200 or answer.body[4:7] != b"\x0a\x01\x00":
        raise RuntimeError(f"{answer.status} {answer.body[:60]!r}")
