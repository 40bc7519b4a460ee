"""EST drivers: simpleenroll over a kept connection, by Basic or by client certificate."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from bench.load.closed_loop import Client
from bench.load.requests import csr, elliptic, name
from bench.load.wire import Connection

_CONTENT = ("Content-Type: application/pkcs10", "Content-Transfer-Encoding: base64")


def by_passphrase(url: str, root: str, user: str, passphrase: str) -> Client:
    """A client that enrolls with HTTP Basic on one kept connection."""
    credentials = base64.b64encode(f"{user}:{passphrase}".encode()).decode("ascii")
    connection = Connection(url, ssl.create_default_context(cafile=root))
    return _enroller(connection, _path(url), (*_CONTENT, f"Authorization: Basic {credentials}"))


def by_certificate(url: str, root: str, user: str, passphrase: str) -> Client:
    """A client that enrolls with a certificate it got before, on one kept connection."""
    credentials = base64.b64encode(f"{user}:{passphrase}".encode()).decode("ascii")
    first = Connection(url, ssl.create_default_context(cafile=root))
    key = elliptic()
    issued = _enroll(first, _path(url), (*_CONTENT, f"Authorization: Basic {credentials}"), key)
    first.close()
    tls = ssl.create_default_context(cafile=root)
    with TemporaryDirectory() as folder:
        held = Path(folder) / "client.pem"
        held.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + issued)
        tls.load_cert_chain(held)
    return _enroller(Connection(url, tls), _path(url), _CONTENT)


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3] + "/simpleenroll"


def _enroller(connection: Connection, path: str, headers: tuple[str, ...]) -> Client:
    key = elliptic()
    return Client(lambda: _enroll(connection, path, headers, key), connection.close)


def _enroll(connection: Connection, path: str, headers: tuple[str, ...], key: ec.EllipticCurvePrivateKey) -> bytes:
    answer = connection.send("POST", path, base64.b64encode(csr(key, name())), headers)
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.body[:200]!r}")
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    return certificate.public_bytes(Encoding.PEM)
