"""A small PKI in files: a root, an issuing authority below it, certificates of servers and clients with their keys."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass
class Pki:
    """`folder` holds `root.pem`, `issuing.pem`, and NAME.crt (a chain) with NAME.key of each leaf."""

    folder: Path
    name: str = "issuing"
    root_key: Key = field(default_factory=lambda: new_key("ecdsa"))
    issuing_key: Key = field(default_factory=lambda: new_key("ecdsa"))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = self._sign("root", self.root_key, "root", self.root_key, ca=True)
        self.issuing = self._sign(self.name, self.issuing_key, "root", self.root_key, ca=True)
        (self.folder / "root.pem").write_bytes(self.root.public_bytes(Encoding.PEM))
        (self.folder / "issuing.pem").write_bytes(self.issuing.public_bytes(Encoding.PEM))

    @property
    def trusted(self) -> frozenset[bytes]:
        return frozenset({self.issuing.public_bytes(Encoding.DER)})

    def leaf(
        self,
        name: str,
        *dns: str,
        kind: str = "ecdsa",
        folder: Path | None = None,
        days: float = 1.0,
        began: timedelta = timedelta(hours=1),
        purposes: tuple[ObjectIdentifier, ...] = PURPOSES,
    ) -> x509.Certificate:
        key = new_key(kind)
        certificate = self._sign(
            name, key, self.name, self.issuing_key, dns=dns, days=days, began=began, purposes=purposes
        )
        place = folder or self.folder
        place.mkdir(exist_ok=True)
        chain = certificate.public_bytes(Encoding.PEM) + self.issuing.public_bytes(Encoding.PEM)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for suffix, data in ((".key", private), (".crt", chain)):
            path = place / f"{name}{suffix}"
            path.with_suffix(".new").write_bytes(data)
            path.with_suffix(".new").rename(path)
        return certificate

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "root.pem"))
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def _sign(
        self,
        name: str,
        key: Key,
        issuer: str,
        issuer_key: Key,
        *,
        ca: bool = False,
        dns: tuple[str, ...] = (),
        days: float = 1.0,
        began: timedelta = timedelta(hours=1),
        purposes: tuple[ObjectIdentifier, ...] = PURPOSES,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - began - timedelta(days=max(0.0, -2 * days)))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if not ca and purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
        if dns:
            names = x509.SubjectAlternativeName([x509.DNSName(each) for each in dns])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())


def new_key(kind: str) -> Key:
    """`ecdsa` (P-256) or `rsa` (2048)."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())
