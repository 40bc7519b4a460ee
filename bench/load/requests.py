"""Prepared certification requests: keys are made once, each request has a name of its own."""

from __future__ import annotations

import itertools
import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_numbers = itertools.count(1)
_run = secrets.token_hex(4)  # so that two runs against one store do not meet


def name() -> str:
    """A host name that no other request of this run has."""
    return f"h{next(_numbers)}-{_run}.bench.example"


def csr(key: PrivateKey, dns: str, challenge: str | None = None) -> bytes:
    """A PKCS#10 in DER for `dns`, as subject and as alternative name, with a challengePassword if one is given."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    )
    if challenge is not None:
        builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def elliptic() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())
