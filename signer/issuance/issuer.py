"""An issuer, made ready once: what all its certificates have in common is worked out here. Nothing is signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.contract.refusal import SignerRefusal
from signer.issuance import der
from signer.issuance.names import Bounds, bounds_of
from signer.issuance.refused import Refused
from signer.issuance.signature import Sign, algorithm_identifier, signing
from signer.keystore.key import KeyKind, StoredKey
from signer.keystore.mechanism import Digest, PrivateKey, digest_of

Extensions: TypeAlias = list[x509.Extension[x509.ExtensionType]]
E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer's key and the facts of its certificate. Times are seconds since the epoch; `spki` is DER.

    `path_length` is that of its own certificate's basic constraints: how many authorities may stand below it.
    `signature` and `algorithm` are how it signs; `heading` (with its name) and `mark` (AKI) what all of them have.
    """

    key: StoredKey
    private_key: PrivateKey
    digest: Digest | None
    name: x509.Name
    identifier: x509.Extension[x509.ExtensionType]  # the AKI of everything that it signs
    spki: bytes
    not_before: int
    not_after: int
    path_length: int | None
    signs_lists: bool
    bounds: tuple[Bounds, ...] = ()  # the name constraints of its own certificate and of those above it
    signature: Sign = field(init=False)
    algorithm: bytes = field(init=False)
    heading: bytes = field(init=False)
    mark: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", signing(self.private_key, self.digest))
        object.__setattr__(self, "algorithm", algorithm_identifier(self.private_key, self.digest))
        object.__setattr__(self, "heading", self.algorithm + self.name.public_bytes())
        object.__setattr__(self, "mark", written(self.identifier))


def issuer_of(key: StoredKey) -> Issuer:
    """The issuer that a stored key is. Raises `Refused` (WRONG_KIND) if the key may not sign certificates."""
    if key.kind is not KeyKind.ISSUER:
        raise Refused(SignerRefusal.WRONG_KIND, f"the key {key.name!r} is not an issuer's")
    certificate = key.certificate
    basic = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    if basic is None or not basic.ca or (usage is not None and not usage.key_cert_sign):
        raise Refused(SignerRefusal.WRONG_KIND, f"the certificate of {key.name!r} is not an authority's")
    public_key = key.private_key.public_key()
    ski = extension(certificate, x509.SubjectKeyIdentifier)
    aki = (
        x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)
        if ski is None
        else x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    )
    return Issuer(
        key=key,
        private_key=key.private_key,
        digest=digest_of(public_key),
        name=certificate.subject,
        identifier=encoded(aki, critical=False),
        spki=public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        path_length=basic.path_length,
        signs_lists=usage is None or usage.crl_sign,
        bounds=tuple(bounds for bounds in map(bounds_of, key.chain) if bounds),
    )


def encoded(value: x509.ExtensionType, *, critical: bool) -> x509.Extension[x509.ExtensionType]:
    """An extension that recurs, in DER once and for all: encoding it anew takes a tenth of an issuance."""
    return x509.Extension(value.oid, critical, x509.UnrecognizedExtension(value.oid, value.public_bytes()))


def written(extension: x509.Extension[x509.ExtensionType]) -> bytes:
    """An extension in DER."""
    oid = der.object_identifier(extension.oid.dotted_string)
    return der.extension(oid, extension.value.public_bytes(), critical=extension.critical)


def extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """The extension of that kind in a certificate, None if it has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
