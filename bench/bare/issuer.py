"""A key in this very process that signs whatever it is asked for.

Never here: a ceiling, a journal, a ticket; a second look at what is signed.
"""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.load.requests import elliptic


class Issuer:
    """One P-256 key under a name."""

    def __init__(self) -> None:
        self._key = elliptic()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bare issuer")])
        self._usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        self._server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def issue(self, der: bytes) -> x509.Certificate:
        """A leaf for a certification request, whose signature is verified. Raises ValueError."""
        request = x509.load_der_x509_csr(der)
        if not request.is_signature_valid:
            raise ValueError("the request's signature is wrong")
        public = request.public_key()
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        now = dt.datetime.now(dt.UTC)
        serial = x509.random_serial_number()
        return (
            x509.CertificateBuilder(self._name, request.subject, public, serial, now, now + dt.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(self._usage, critical=True)
            .add_extension(self._server, critical=False)
            .add_extension(names, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def serial(certificate: x509.Certificate) -> bytes:
    """The key of its row."""
    return certificate.serial_number.to_bytes(20, "big")


def der(certificate: x509.Certificate) -> bytes:
    """As it is stored."""
    return certificate.public_bytes(Encoding.DER)
