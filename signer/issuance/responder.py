"""Who signs OCSP responses: for each issuer a key in this process's memory, certified by the issuer for days.

So an issuer's key, which may be on a slow token, is used once in a week, and a key that leaks dies by itself. The key
is never written anywhere, and nobody can ask for its certificate: no verb names it, and the ceilings of what can be
asked for stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signer.contract.refusal import SignerRefusal
from signer.hardening.log import tell
from signer.issuance.der import OCTET_STRING, sequence, tagged
from signer.issuance.issuer import Issuer, encoded
from signer.issuance.refused import Refused
from signer.issuance.signature import Sign, algorithm_identifier, signing
from signer.issuance.template import key_bits, key_identifier
from signer.keystore.mechanism import GENERATORS, PrivateKey, PublicKey, algorithm_of, digest_of

# RFC 6960, 4.2.2.2.1: whoever cannot be revoked (nocheck) should live shortly. Renewed at half of it, so that what is
# left is longer than any response may be in force (`ocsp.MAX_VALIDITY`), and a token may be away for days.
LIFETIME: Final = 14 * 86400  # seconds
RENEW_AFTER: Final = 7 * 86400  # seconds
RETRY_AFTER: Final = 60  # seconds; a renewal that failed is not tried again with every answer
_BACKDATE: Final = 300  # seconds, for relying parties whose clock is slow

_NAME: Final = 64  # characters of a common name, at most (RFC 5280, A.1)
_USAGE: Final = encoded(x509.KeyUsage(True, *([False] * 8)), critical=True)
_SIGNING: Final = encoded(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
_NO_CHECK: Final = encoded(x509.OCSPNoCheck(), critical=False)
_LEAF: Final = encoded(x509.BasicConstraints(ca=False, path_length=None), critical=True)

Record: TypeAlias = Callable[[str, int, bytes], None]
"""Takes an issuer's key name, and serial number and DER of a certificate that it signed, before anybody sees it."""


@dataclass(frozen=True, slots=True)
class Responder:
    """A responder of one issuer. Times are seconds since the epoch; the other fields are DER, ready to be put in place.

    `identity` is the ResponderID by key, `certificates` the field `certs` of a response.
    """

    issuer: Issuer
    signature: Sign
    algorithm: bytes
    identity: bytes
    certificates: bytes
    not_after: int
    renew_at: int


class Responders:
    """This process's responders, made when they are first needed and renewed well ahead of their end.

    `dice` gives that many random bytes, for serial numbers; `record` is told of every certificate.
    """

    def __init__(self, dice: Callable[[int], bytes], record: Record) -> None:
        self._dice = dice
        self._record = record
        self._responders: dict[str, Responder] = {}
        self._retry_at: dict[str, int] = {}

    def of(self, issuer: Issuer, now: int) -> Responder:
        """The issuer's responder. Raises `Refused` (CEILING) where the issuer's own time is over.

        Where a renewal fails, the one before serves on as long as it lives: a token may be away for a while.
        """
        name = issuer.key.name
        held = self._responders.get(name)
        if held is None or held.issuer is not issuer or now >= held.not_after:
            held = self._responders[name] = self._make(issuer, now)
        elif now >= held.renew_at and now >= self._retry_at.get(name, 0):
            try:
                held = self._responders[name] = self._make(issuer, now)
            except Exception as error:  # noqa: BLE001 - whatever a token raises; the one that is held still serves
                tell(error)
                self._retry_at[name] = now + RETRY_AFTER
        return held

    def _make(self, issuer: Issuer, now: int) -> Responder:
        not_before, not_after = max(now - _BACKDATE, issuer.not_before), min(now + LIFETIME, issuer.not_after)
        if not not_before <= now < not_after:
            raise Refused(SignerRefusal.CEILING, "the issuer's own validity is over, or has not begun")
        private_key = GENERATORS[responder_algorithm(issuer.private_key.public_key())]()
        spki = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        # RFC 5280, 4.1.2.2: positive, at most 20 octets. 158 random bits under a leading one collide with nothing.
        serial = int.from_bytes(self._dice(20), "big") >> 2 | 1 << 158
        certificate = _certificate(issuer, private_key, serial, (not_before, not_after))
        self._record(issuer.key.name, serial, certificate)
        digest = digest_of(private_key.public_key())
        return Responder(
            issuer=issuer,
            signature=signing(private_key, digest),
            algorithm=algorithm_identifier(private_key, digest),
            # RFC 5019, 2.2.2: by key, which is shorter. SHA-1 is the protocol's (RFC 6960, 4.2.1), and no signature.
            identity=tagged(0xA2, tagged(OCTET_STRING, hashlib.sha1(key_bits(spki), usedforsecurity=False).digest())),
            certificates=tagged(0xA0, sequence(certificate)),
            not_after=not_after,
            renew_at=min(now + RENEW_AFTER, now + (not_after - now) // 2),
        )


def responder_algorithm(key: PublicKey) -> str:
    """The algorithm of a responder's key under an issuer's: a kind that whoever verifies the issuer's can verify.

    ML-DSA stays with the issuer's own parameter set: who trusts that alone must not be deceived by a broken curve.
    """
    match key:
        case ec.EllipticCurvePublicKey():
            return "EC_prime256v1"
        case rsa.RSAPublicKey():
            return "RSA_2048"
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return "ED25519"
        case _:
            algorithm = algorithm_of(key)
            assert algorithm is not None  # the other kinds are ML-DSA's
            return algorithm


def _certificate(issuer: Issuer, private_key: PrivateKey, serial: int, validity: tuple[int, int]) -> bytes:
    not_before, not_after = validity
    public_key = private_key.public_key()
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identifier = x509.SubjectKeyIdentifier(key_identifier(spki))
    builder = x509.CertificateBuilder(
        issuer_name=issuer.name,
        subject_name=_name(issuer.name),
        public_key=public_key,
        serial_number=serial,
        not_valid_before=datetime.fromtimestamp(not_before, UTC).replace(tzinfo=None),
        not_valid_after=datetime.fromtimestamp(not_after, UTC).replace(tzinfo=None),
        extensions=[
            issuer.identifier,
            x509.Extension(identifier.oid, False, identifier),
            _LEAF,
            _USAGE,
            _SIGNING,
            _NO_CHECK,
        ],
    )
    return builder.sign(issuer.private_key, issuer.digest).public_bytes(Encoding.DER)


def _name(issuer: x509.Name) -> x509.Name:
    """The issuer's name, with what it is in its common name: constraints on directory names still hold for it."""
    kept = [part for part in issuer.rdns if not any(each.oid == NameOID.COMMON_NAME for each in part)]
    named = [each.value for each in issuer.get_attributes_for_oid(NameOID.COMMON_NAME) if isinstance(each.value, str)]
    common = f"{named[0][: _NAME - 15]} OCSP responder" if named else "OCSP responder"
    return x509.Name([*kept, x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, common)])])
