"""What is in a key folder, described from its files alone: no token is asked, no key is opened, nothing is changed."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.ceremony.manifest import Shown, pem
from signer.ceremony.plan import policies_of
from signer.issuance.issuer import extension
from signer.issuance.names import bounds_of
from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.keyfile import KeyFacts
from signer.keystore.mechanism import PublicKey
from signer.keystore.softkey import SoftKeyStore


def shown(store: SoftKeyStore, name: str) -> Shown:
    """A key of the store, whether it has its certificate or waits for it. Raises `KeyStoreError`."""
    if name in store.pending_names() and name not in store.names():
        return _waiting(store.facts(name, pending=True))
    return _with_certificate(store, name)


def listed(store: SoftKeyStore) -> list[Shown]:
    """All keys of the store, sorted by name. Raises `KeyStoreError`."""
    return [shown(store, name) for name in sorted({*store.names(), *store.pending_names()})]


def _waiting(facts: KeyFacts) -> Shown:
    try:
        request = x509.load_der_x509_csr(facts.request)
    except ValueError:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {facts.name}.pending holds no request") from None
    return Shown(
        key=facts.name,
        kind=facts.kind,
        algorithm=facts.algorithm,
        spki_sha256=_digest(request.public_key()),
        ceiling=facts.ceiling,
        subject=request.subject.rfc4514_string(),
        place=next(iter(facts.everywhere), None),
        predecessor=facts.predecessor,
        csr=pem(request),
    )


def _with_certificate(store: SoftKeyStore, name: str) -> Shown:
    facts, chain = store.facts(name), store.chain(name)
    own = chain[0]
    basic = extension(own, x509.BasicConstraints)
    bounds = bounds_of(own)
    return Shown(
        key=facts.name,
        kind=facts.kind,
        algorithm=facts.algorithm,
        spki_sha256=_digest(own.public_key()),
        ceiling=facts.ceiling,
        subject=own.subject.rfc4514_string(),
        place=next(iter(facts.everywhere), None),
        places=facts.places,
        certificate=pem(own),
        certificate_sha256=own.fingerprint(hashes.SHA256()).hex(),
        serial=f"{own.serial_number:x}",
        issuer=own.issuer.rfc4514_string(),
        not_before=int(own.not_valid_before_utc.timestamp()),
        not_after=int(own.not_valid_after_utc.timestamp()),
        chain=[pem(each) for each in chain],
        path_length=None if basic is None else basic.path_length,
        permitted=list(bounds.permitted),
        excluded=list(bounds.excluded),
        policies=list(policies_of(own)),
        parent=_parent(store, chain),
        predecessor=facts.predecessor,
        links=[pem(x509.load_der_x509_certificate(each)) for each in facts.links],
    )


def _parent(store: SoftKeyStore, chain: tuple[x509.Certificate, ...]) -> str:
    if len(chain) == 1:
        return ""
    return next((name for name in store.names() if store.chain(name)[0] == chain[1]), "")


def _digest(public_key: object) -> str:
    assert isinstance(public_key, PublicKey)
    return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
