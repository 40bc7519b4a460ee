"""An RA in memory, with a CA above it: the host's half of SCEP exchanges, without store, signer process or policy."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from protocols.exchange import Need, Reason, Refused
from protocols.scep import needs

NOW = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
DIGESTS = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


@dataclass
class ScepRa:
    """RA and CA. `asked` holds every need in order; `outcome` overrides what Enroll and Renew answer, or is raised."""

    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    outcome: needs.Waiting | Exception | None = None
    include: bool = True
    refuse_failures: bool = False
    asked: list[Need[object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ca = self.issue("Test CA", self.ca_key.public_key())
        self.certificate = self.issue("Test RA", self.key.public_key())

    def issue(self, common_name: str, key: object) -> x509.Certificate:
        """A certificate of the CA."""
        builder = x509.CertificateBuilder(
            _name("Test CA"), _name(common_name), key, x509.random_serial_number(), NOW, NOW + dt.timedelta(days=30)
        )
        return builder.sign(self.ca_key, hashes.SHA256())

    def answer(self, need: Need[object]) -> object:
        """Answer a need of a SCEP exchange, as the host and its signer do."""
        self.asked.append(need)
        match need:
            case needs.CaCertificates():
                return needs.Authorities(
                    self.certificate.public_bytes(Encoding.DER), (self.ca.public_bytes(Encoding.DER),)
                )
            case needs.UnwrapKey():
                return self._unwrap(need)
            case needs.SignAttributes(failure=True) if self.refuse_failures:
                raise Refused(Reason.BUSY, "too much to do")
            case needs.SignAttributes():
                return self.key.sign(need.attributes, padding.PKCS1v15(), DIGESTS[need.digest])
            case needs.Enroll() | needs.Renew():
                return self._enroll(need)
            case _:
                raise AssertionError(need)

    def _unwrap(self, need: needs.UnwrapKey) -> bytes:
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if need.algorithm != "pkcs1v15":
            digest = DIGESTS[need.algorithm.removeprefix("oaep-")]
            scheme = padding.OAEP(padding.MGF1(digest), digest, None)
        try:
            key = self.key.decrypt(need.wrapped, scheme)
        except ValueError:
            key = b""
        return key if len(key) == need.length else secrets.token_bytes(need.length)

    def _enroll(self, need: needs.Enroll | needs.Renew) -> needs.Enrolled | needs.Waiting:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is not None:
            return self.outcome
        leaf = self.issue(need.csr.subject[0].value, load_der_public_key(need.csr.spki))
        beside = (self.ca.public_bytes(Encoding.DER),) if self.include else ()
        return needs.Enrolled(leaf.public_bytes(Encoding.DER), beside)

    def names(self) -> list[str]:
        """The kinds of needs that were asked."""
        return [type(need).__name__ for need in self.asked]
