"""Certification requests as clients make them."""

import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


def csr(
    common_name: str | None = "dev1",
    dns: Sequence[str] = ("dev1.example",),
    *,
    ip: Sequence[str] = (),
    key=None,
    extensions: Sequence[x509.ExtensionType] = (),
) -> bytes:
    """A PKCS#10 request, DER, signed with `key` or a new P-256 key."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name is not None else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    sans = [x509.DNSName(each) for each in dns] + [x509.IPAddress(ipaddress.ip_address(each)) for each in ip]
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=common_name is None)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)
