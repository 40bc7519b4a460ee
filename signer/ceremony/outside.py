"""Authorities whose certificate or key comes from elsewhere: requested, installed, imported. Each checked as a whole.

A key that waits for its certificate signs nothing, and no worker has it open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from signer.ceremony.authority import Ceremony
from signer.ceremony.certify import spki_of
from signer.ceremony.chains import ceiling_within, checked_chain
from signer.ceremony.plan import DAY, Extras, Plan, extras
from signer.issuance.issuer import encoded, extension
from signer.issuance.template import key_identifier, name_of
from signer.issuance.usage import KEY_USAGES
from signer.keystore.failures import KeyExists, KeyStoreError, StoreFailure
from signer.keystore.key import Ceiling, KeyKind, PendingKey, StoredKey
from signer.keystore.mechanism import PrivateKey, algorithm_of, digest_of

_IDENTIFIER: Final = x509.SubjectKeyIdentifier
_ASKED: Final = frozenset(
    {x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.NameConstraints.oid, x509.CertificatePolicies.oid}
)


def request(ceremony: Ceremony, plan: Plan) -> PendingKey:
    """A key for an authority that somebody else shall certify, with a request for it: found, or made.

    Raises `ValueError`, `KeyStoreError`.
    """
    if plan.name in ceremony.store.pending_names():
        pending = ceremony.store.pending(plan.name)
        asked = (name_of(plan.subject), plan.algorithm)
        if (pending.request.subject, algorithm_of(pending.private_key.public_key())) != asked:
            subject = pending.request.subject.rfc4514_string()
            raise ValueError(f"{plan.name} waits already, as {subject}: ask for the same, or choose another name")
        ceremony.transcript.key(plan.name, pending.private_key, found=True)
        return pending
    wishes: Extras = [
        encoded(x509.BasicConstraints(ca=True, path_length=plan.path_length), critical=True),
        encoded(x509.KeyUsage(*(each in ("keyCertSign", "cRLSign") for each in KEY_USAGES)), critical=True),
        *extras(plan),
    ]
    ceiling = Ceiling(max_validity=plan.leaf_days * DAY)
    return _waiting(ceremony, plan.name, plan.algorithm, subject=name_of(plan.subject), wishes=wishes, ceiling=ceiling)


def request_like(ceremony: Ceremony, old: StoredKey, name: str, algorithm: str) -> PendingKey:
    """A key that shall follow another, whose certificate somebody else signed, with a request such as that one's."""
    wishes = [each for each in old.certificate.extensions if each.oid in _ASKED]
    subject = old.certificate.subject
    return _waiting(
        ceremony, name, algorithm, subject=subject, wishes=wishes, ceiling=old.ceiling, predecessor=old.name
    )


def request_again(key: StoredKey) -> x509.CertificateSigningRequest:
    """A request for a new certificate of a stored key, such as the one that it has, and of the same identifier."""
    wishes = [each for each in key.certificate.extensions if each.oid in _ASKED]
    return _signed_request(key.private_key, key.certificate.subject, wishes, extension(key.certificate, _IDENTIFIER))


def install(ceremony: Ceremony, name: str, given: Sequence[x509.Certificate]) -> StoredKey:
    """Give a key its certificate and chain from elsewhere: one that waits for it, or one that has another already.

    Raises `ValueError`, `KeyStoreError`.
    """
    if name in ceremony.store.names():
        key = ceremony.store.find(name)
        if key.kind is not KeyKind.ISSUER:
            raise ValueError(f"the key {name} is a registration authority's: only authorities get certificates so")
        chain = checked_chain(given, spki_of(key.private_key), now=ceremony.now)
        _check_like(chain[0], key.certificate)
        ceiling = _merged(chain, key.ceiling)
        ceremony.store.replace(name, chain=chain, ceiling=ceiling)
    else:
        pending = ceremony.store.pending(name)
        chain = checked_chain(given, spki_of(pending.private_key), now=ceremony.now)
        ceiling = _merged(chain, pending.ceiling)
        with contextlib.suppress(KeyExists):
            ceremony.store.add(
                StoredKey(name, KeyKind.ISSUER, pending.private_key, chain, ceiling, predecessor=pending.predecessor)
            )
    ceremony.store.forget_pending(name)
    installed = ceremony.store.find(name)
    ceremony.transcript.say(f"Installed a certificate of {chain[0].issuer.rfc4514_string()} for {name}")
    _say_chain(ceremony, installed)
    return installed


def _check_like(renewed: x509.Certificate, before: x509.Certificate) -> None:
    """Raises `ValueError` unless it goes by the names that what was issued and the lists in force know their issuer by.

    Subject and key identifier: a certificate's issuer is found by both, a list by a certificate (RFC 5280, 6.3.3, f),
    a delta by a list (6.3.3, c3). Where one changed, revocations would be overlooked without a word.
    """
    if renewed.subject != before.subject:
        raise ValueError(
            f"the certificate is for {renewed.subject.rfc4514_string()!r}, and what was issued names"
            f" {before.subject.rfc4514_string()!r}: have it signed as the request says"
        )
    known, other = extension(before, _IDENTIFIER), extension(renewed, _IDENTIFIER)
    if known is not None and other != known:
        raise ValueError(
            f"the certificate has not the subject key identifier {known.digest.hex()}, which what was issued names:"
            " have it signed as the request says"
        )


def import_key(
    ceremony: Ceremony,
    name: str,
    private_key: PrivateKey,
    given: Sequence[x509.Certificate],
    *,
    leaf_days: int,
    rest: Callable[[PrivateKey], PrivateKey],
) -> StoredKey:
    """Store an authority's key that was made elsewhere. `rest` gives the key as it rests from now on: on a token, say.

    Raises `ValueError`, `KeyStoreError`.
    """
    chain = checked_chain(given, spki_of(private_key), now=ceremony.now)
    if name in ceremony.store.pending_names():
        raise ValueError(f"{name} waits for its certificate: install it, or import under another name")
    found = ceremony.found(name)
    if found is not None:
        if spki_of(found.private_key) != spki_of(private_key):
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} exists and is another")
        ceremony.transcript.authority(found, found=True)
        return found
    key = ceremony.kept(StoredKey(name, KeyKind.ISSUER, rest(private_key), chain, ceiling_within(chain, leaf_days)))
    ceremony.transcript.say("It was made elsewhere: whoever had it before can still sign with it")
    _say_chain(ceremony, key)
    return key


def private_key_from(content: bytes, passphrase: bytes) -> PrivateKey:
    """A private key from PEM or PKCS#8 DER, encrypted or not. Raises `ValueError`."""
    load = load_pem_private_key if b"-----BEGIN" in content else load_der_private_key
    try:
        key = load(content, passphrase or None)
    except TypeError:
        need = "its passphrase is missing" if not passphrase else "it is not encrypted, and a passphrase was given"
        raise ValueError(f"the key does not open: {need}") from None
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the key is of an unknown kind or encryption: {error}") from None
    except ValueError as error:
        raise ValueError(f"the key does not open: the passphrase is wrong, or it is no private key ({error})") from None
    return _ours(key)


def pkcs12_from(content: bytes, passphrase: bytes) -> tuple[PrivateKey, list[x509.Certificate]]:
    """The key and the certificates in a PKCS#12 file (RFC 7292). Raises `ValueError`."""
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, passphrase or None)
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the PKCS#12 file is encrypted in an unknown way: {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"the PKCS#12 file does not open: the passphrase is wrong, or it is none ({error})") from None
    if key is None:
        raise ValueError("the PKCS#12 file holds no private key")
    return _ours(key), [*([] if certificate is None else [certificate]), *others]


def _ours(key: object) -> PrivateKey:
    if not isinstance(key, PrivateKey) or algorithm_of(key.public_key()) is None:
        raise ValueError("the key is of a kind or strength that no certificate may carry")
    return key


def _waiting(
    ceremony: Ceremony,
    name: str,
    algorithm: str,
    *,
    subject: x509.Name,
    wishes: Extras,
    ceiling: Ceiling,
    predecessor: str = "",
) -> PendingKey:
    if ceremony.found(name) is not None:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} exists, with a certificate")
    private_key = ceremony.make(name, algorithm, KeyKind.ISSUER)
    signed = _signed_request(private_key, subject, wishes)
    ceremony.store.add_pending(PendingKey(name, private_key, signed, ceiling, predecessor))
    ceremony.transcript.key(name, private_key, found=False)
    ceremony.transcript.say(f"Request (PKCS#10) for {subject.rfc4514_string()}; the key waits for its certificate")
    return ceremony.store.pending(name)


def _signed_request(
    private_key: PrivateKey, subject: x509.Name, wishes: Extras, identifier: x509.SubjectKeyIdentifier | None = None
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder(subject)
    for each in wishes:
        builder = builder.add_extension(each.value, each.critical)
    identifier = identifier or x509.SubjectKeyIdentifier(key_identifier(spki_of(private_key)))
    builder = builder.add_extension(identifier, critical=False)
    return builder.sign(private_key, digest_of(private_key.public_key()))


def _merged(chain: Sequence[x509.Certificate], before: Ceiling) -> Ceiling:
    """What the new chain allows, for leaves as long as it was agreed when the key was made."""
    within = ceiling_within(chain, before.max_validity // DAY)
    return msgspec.structs.replace(within, algorithms=before.algorithms, names=before.names)


def _say_chain(ceremony: Ceremony, key: StoredKey) -> None:
    ceremony.transcript.certificate(key.name, key.certificate)
    ceremony.transcript.ceiling(key.ceiling)
    for each in key.chain[1:]:
        ceremony.transcript.certificate("an authority above", each)
    usage = extension(key.certificate, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        ceremony.transcript.say(f"Mind: {key.name} may not sign revocation lists (its key usage has no cRLSign)")
