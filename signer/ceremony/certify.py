"""Where ceremonies sign: what is asked passes lint and ceilings as everything else does, and is signed once.

Nothing that was signed leaves before it was noted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.ceremony.plan import DAY, Extras
from signer.contract.messages import GeneralName, IssueCertificate
from signer.issuance import lint
from signer.issuance.issue import prepare, sign
from signer.issuance.issuer import Issuer, encoded, issuer_of
from signer.issuance.template import build, key_identifier, name_of
from signer.keystore.key import Ceiling, KeyKind, StoredKey
from signer.keystore.mechanism import GENERATORS, PrivateKey, algorithm_of, digest_of

Note: TypeAlias = Callable[[str, x509.Certificate], None]  # told of each signature: the issuer's key, what it signed
Make: TypeAlias = Callable[[str, str, KeyKind], PrivateKey]  # a key's name, its algorithm, what it is for

AUTHORITY_USAGES: Final = ("keyCertSign", "cRLSign")
_NO_BOUND: Final = 10**10  # seconds


def ask_for(
    private_key: PrivateKey,
    name: str,
    *,
    now: int,
    days: int,
    subject: list[tuple[str, str]],
    key_usages: list[str],
    sans: list[GeneralName] | None = None,
    extended_key_usages: list[str] | None = None,
) -> IssueCertificate:
    """What a ceremony asks for, of itself."""
    return IssueCertificate(
        issuer=name,
        ticket=b"",
        deadline=0,
        serial=new_serial(),
        spki=spki_of(private_key),
        subject=subject,
        sans=sans or [],
        san_critical=False,
        key_usages=key_usages,
        extended_key_usages=extended_key_usages or [],
        # A day back: a leaf that is backdated for slow clocks must not begin before its issuer.
        not_before=now - DAY,
        not_after=now + (days - 1) * DAY,
        proof=None,
    )


def self_signed(
    name: str, private_key: PrivateKey, ask: IssueCertificate, extras: Extras, note: Note
) -> x509.Certificate:
    """A root's certificate. Raises `Refused` (LINT)."""
    lint.check(ask, algorithm_of(private_key.public_key()) or "")
    itself = new_root(
        name, private_key, name_of(ask.subject), key_identifier(ask.spki), term=(ask.not_before, ask.not_after)
    )
    return _signed(itself, build(itself, ask, private_key.public_key()), extras, note)


def issued(authority: StoredKey, ask: IssueCertificate, extras: Extras, note: Note) -> x509.Certificate:
    """A certificate by an authority of the store, cut to the authority's own validity. Raises `Refused`."""
    # How long the certificate of a ceremony is good says the person who holds it; the rest of the ceiling stands.
    issuer = issuer_of(replace(authority, ceiling=msgspec.structs.replace(authority.ceiling, max_validity=_NO_BOUND)))
    within = msgspec.structs.replace(
        ask, not_before=max(ask.not_before, issuer.not_before), not_after=min(ask.not_after, issuer.not_after)
    )
    return _signed(issuer, prepare(issuer, within), extras, note)


def copied(
    issuer: Issuer,
    model: x509.Certificate,
    note: Note,
    *,
    not_before: int,
    not_after: int,
    private_key: PrivateKey | None = None,
    leave_out: frozenset[x509.ObjectIdentifier] = frozenset(),
    more: Extras | None = None,
) -> x509.Certificate:
    """A certificate such as `model` from `issuer`: subject and extensions as they stand there.

    For another key (`private_key`) its identifier is another. Times are seconds since the epoch.
    """
    public_key = model.public_key() if private_key is None else private_key.public_key()
    extensions: Extras = [issuer.identifier, *(more or [])]
    for each in model.extensions:
        if each.oid == x509.AuthorityKeyIdentifier.oid or each.oid in leave_out:
            continue
        if private_key is not None and each.oid == x509.SubjectKeyIdentifier.oid:
            continue
        extensions.append(x509.Extension(each.oid, each.critical, each.value))
    if private_key is not None:
        extensions.append(encoded(x509.SubjectKeyIdentifier(key_identifier(spki_of(private_key))), critical=False))
    builder = x509.CertificateBuilder(
        issuer_name=issuer.name,
        subject_name=model.subject,
        public_key=public_key,
        serial_number=int.from_bytes(new_serial(), "big"),
        not_valid_before=_instant(not_before),
        not_valid_after=_instant(not_after),
        extensions=extensions,
    )
    return _signed(issuer, builder, [], note)


def new_root(
    name: str, private_key: PrivateKey, subject: x509.Name, identifier: bytes, *, term: tuple[int, int]
) -> Issuer:
    """The issuer that a root is for its own first certificate, good for `term`. It may sign nothing else with this."""
    public_key = private_key.public_key()
    return Issuer(
        key=StoredKey(name, KeyKind.ISSUER, private_key, (), Ceiling(max_validity=0)),
        private_key=private_key,
        digest=digest_of(public_key),
        name=subject,
        identifier=encoded(x509.AuthorityKeyIdentifier(identifier, None, None), critical=False),
        spki=spki_of(private_key),
        not_before=term[0],
        not_after=term[1],
        path_length=None,
        signs_lists=True,
    )


def generated(algorithm: str) -> PrivateKey:
    """A new key in software. Raises `ValueError`."""
    generate = GENERATORS.get(algorithm)
    if generate is None:
        raise ValueError(f"{algorithm!r} is none of {', '.join(GENERATORS)}")
    return generate()


def spki_of(private_key: PrivateKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def new_serial() -> bytes:
    """126 random bits, positive, of one length."""
    octets = os.urandom(16)
    return bytes((0x40 | octets[0] & 0x3F,)) + octets[1:]


def _signed(issuer: Issuer, builder: x509.CertificateBuilder, extras: Extras, note: Note) -> x509.Certificate:
    for each in extras:
        builder = builder.add_extension(each.value, each.critical)
    certificate = x509.load_der_x509_certificate(sign(issuer, builder))
    note(issuer.key.name, certificate)
    return certificate


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
