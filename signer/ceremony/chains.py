"""Certificates that come from elsewhere: ordered into a chain and judged, each of them, before a key of ours has it.

Nothing of a chain is believed: not its order, not its signatures, not its times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.ceremony.plan import DAY
from signer.issuance.ceiling import AUTHORITATIVE
from signer.issuance.issuer import extension
from signer.keystore.key import Ceiling
from signer.keystore.mechanism import algorithm_of

_MOST: Final = 20  # certificates; bundles of roots are not chains
_SOUND: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512)
_ANY_USAGE: Final = "2.5.29.37.0"


def chain_from(content: bytes) -> list[x509.Certificate]:
    """The certificates in a PEM or DER file. Raises `ValueError`."""
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        raise ValueError(f"there is no certificate in PEM or DER: {error}") from None


def checked_chain(given: Sequence[x509.Certificate], spki: bytes, *, now: int) -> tuple[x509.Certificate, ...]:
    """The chain of the key `spki`, its own certificate first, a self-signed root last. Raises `ValueError`, a sentence.

    `now` is in seconds since the epoch. RFC 5280, 6.1: signatures, times, basic constraints, key usage, path lengths.
    """
    if len(given) > _MOST:
        raise ValueError(f"more than {_MOST} certificates were given")
    for each in given:
        _check_readable(each)
    own = [each for each in given if _spki(each) == spki]
    if not own:
        raise ValueError("none of the certificates is for this key")
    # The last that was issued, where a bundle still has an older one.
    chain = [max(own, key=lambda each: each.not_valid_before_utc)]
    while not _self_signed(chain[-1]):
        _check_signature(chain[-1])
        issuers = [each for each in given if each not in chain and _issued_by(chain[-1], each)]
        if not issuers:
            raise ValueError(
                f"the chain is not complete: the certificate of {chain[-1].issuer.rfc4514_string()!r} is missing"
            )
        # Where a root was followed by another, its own certificate is the end, not the one that links the two.
        chain.append(max(issuers, key=lambda each: (_self_signed(each), each.not_valid_before_utc)))
    for above, certificate in enumerate(chain):
        _check_authority(certificate, now)
        _check_path_length(certificate, chain[:above])
    return tuple(chain)


def ceiling_within(chain: Sequence[x509.Certificate], leaf_days: int) -> Ceiling:
    """What the key of a chain from elsewhere may sign: leaves, and authorities as far as path lengths allow.

    Extended key usages of the authority bound those of its leaves, as verifiers have it; what speaks for the authority
    itself is not among them.
    """
    path_length = path_length_of(chain)
    usages = extension(chain[0], x509.ExtendedKeyUsage)
    allowed = None
    if usages is not None and _ANY_USAGE not in {each.dotted_string for each in usages}:
        allowed = [each.dotted_string for each in usages if each.dotted_string not in AUTHORITATIVE]
    return Ceiling(
        max_validity=leaf_days * DAY,
        authorities=path_length != 0,
        path_length=path_length - 1 if path_length else None,
        extended_key_usages=allowed,
    )


def path_length_of(chain: Sequence[x509.Certificate]) -> int | None:
    """How many authorities may stand below the first of a chain, as all of them say; None for any number."""
    left: int | None = None
    for certificate in reversed(chain):
        if left is not None and certificate.subject != certificate.issuer:
            left -= 1
        basic = extension(certificate, x509.BasicConstraints)
        if basic is not None and basic.path_length is not None:
            left = basic.path_length if left is None else min(left, basic.path_length)
    return left


def _check_authority(certificate: x509.Certificate, now: int) -> None:
    name = certificate.subject.rfc4514_string()
    basic = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    if basic is None or not basic.ca:
        raise ValueError(f"the certificate of {name!r} is not an authority's (basicConstraints)")
    if usage is None or not usage.key_cert_sign:
        raise ValueError(f"the certificate of {name!r} has not the key usage keyCertSign")
    if certificate.not_valid_after_utc.timestamp() <= now:
        raise ValueError(f"the certificate of {name!r} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc.timestamp() > now:
        raise ValueError(f"the certificate of {name!r} is not good before {certificate.not_valid_before_utc:%Y-%m-%d}")
    if algorithm_of(certificate.public_key()) is None:
        raise ValueError(f"the key of {name!r} is of a kind or strength that no certificate may carry")


def _check_path_length(certificate: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    basic = extension(certificate, x509.BasicConstraints)
    if basic is None or basic.path_length is None:
        return
    if sum(each.subject != each.issuer for each in below) > basic.path_length:
        raise ValueError(f"the path length of {certificate.subject.rfc4514_string()!r} is exceeded")


def _check_readable(certificate: x509.Certificate) -> None:
    """Extensions are parsed when they are first read, and RFC 5280, 4.2, forbids two of a kind."""
    try:
        certificate.extensions  # noqa: B018 - reading is what parses them
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"the certificate of {certificate.subject.rfc4514_string()!r} is malformed: {error}") from None


def _check_signature(certificate: x509.Certificate) -> None:
    digest = certificate.signature_hash_algorithm
    if digest is not None and not isinstance(digest, _SOUND):
        name = certificate.subject.rfc4514_string()
        raise ValueError(f"the certificate of {name!r} is signed with {digest.name}, which proves nothing")


def _self_signed(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and _issued_by(certificate, certificate)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
