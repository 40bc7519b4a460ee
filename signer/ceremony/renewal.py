"""An authority's later life: a new certificate for its key (`renew`), or a key that takes its place (`rekey`).

A renewed certificate has the subject, key, identifiers and constraints of the one before it; no old certificate is
forgotten where it is still used. What was interrupted is finished when it is held again.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from signer.ceremony.authority import Ceremony
from signer.ceremony.certify import copied, new_root, spki_of
from signer.ceremony.chains import path_length_of
from signer.ceremony.manifest import Made, chained
from signer.ceremony.outside import request_like
from signer.ceremony.plan import DAY, Extras
from signer.issuance.issuer import Issuer, extension, issuer_of
from signer.issuance.names import beyond, bounds_of
from signer.issuance.template import key_identifier
from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import KeyKind, PendingKey, StoredKey

# Where to find lists and issuers says the certificate that a link stands beside, not the link.
_ADDRESSES: Final = frozenset({x509.CRLDistributionPoints.oid, x509.AuthorityInformationAccess.oid})


def renew(
    ceremony: Ceremony,
    name: str,
    days: int | None,
    parent: StoredKey | None = None,
    addresses: Extras | None = None,
    *,
    known: str = "",
) -> StoredKey | None:
    """A new certificate for a key of the store, and the chains of all below it. None where another is to sign it.

    `days` is as long as before where it is None. `parent` takes the place of the authority above (a root's new key);
    `addresses` then say where its list, certificate and OCSP are. `known` is the SHA-256 of the certificate that
    whoever asks knows of: where the key has another, it was renewed already. Raises `ValueError`, `KeyStoreError`.
    """
    key = ceremony.store.find(name)
    if behind(ceremony, key) or known not in {"", key.certificate.fingerprint(SHA256()).hex()}:
        ceremony.transcript.say(f"A renewal of {name} was interrupted; it is finished now, and no other is made")
        return key
    above = parent or parent_of(ceremony, key)
    if above is None and len(key.chain) > 1:
        return None
    begins, ends = _term(ceremony, key.certificate, days)
    if above is None:
        chain: tuple[x509.Certificate, ...] = ()
        issuer = issuer_of(key)
    else:
        issuer = _able(above, key)
        chain = above.chain
        begins, ends = max(begins, issuer.not_before), min(ends, issuer.not_after)
    if ends <= key.certificate.not_valid_after_utc.timestamp():
        until = f"{key.certificate.not_valid_after_utc:%Y-%m-%d}"
        reason = (
            f": renew {above.name} first" if above is not None and ends == issuer.not_after else ": ask for more days"
        )
        raise ValueError(f"the new certificate of {name} would end no later than the one that it has ({until}){reason}")
    ceremony.transcript.key(name, key.private_key, found=True)
    leave_out, more = _placed(parent, addresses)
    certificate = copied(
        issuer, key.certificate, ceremony.note, not_before=begins, not_after=ends, leave_out=leave_out, more=more
    )
    ceremony.store.replace(name, chain=(certificate, *chain))
    ceremony.transcript.say(f"Renewed {name} with the same key; the certificate before it ends as it said")
    renewed = ceremony.store.find(name)
    ceremony.transcript.certificate(name, renewed.certificate)
    return renewed


def follow(ceremony: Ceremony, key: StoredKey) -> list[Made]:
    """Give everything below a key the chain that the key has now: all of those, with their chains.

    Each file is exchanged as a whole, so this can be interrupted and done again. Raises `KeyStoreError`.
    """
    for name, place in behind(ceremony, key):
        ceremony.store.replace(name, chain=(*ceremony.store.chain(name)[:place], *key.chain))
        ceremony.transcript.say(f"The chain of {name} follows")
    return [chained(name, ceremony.store.chain(name)) for name, _ in _below(ceremony, key)]


def behind(ceremony: Ceremony, key: StoredKey) -> list[tuple[str, int]]:
    """The names of those below a key whose chain is not yet the key's, and where in their chain the key stands."""
    return [(name, place) for name, place in _below(ceremony, key) if ceremony.store.chain(name)[place:] != key.chain]


def rekey(
    ceremony: Ceremony,
    name: str,
    successor: str,
    *,
    algorithm: str | None = None,
    days: int | None = None,
    parent: StoredKey | None = None,
    addresses: Extras | None = None,
) -> StoredKey | PendingKey:
    """An authority with a new key in the place of another: same subject and constraints, the same parent above it.

    For a root OldWithNew and NewWithOld are made (RFC 4210, 4.4.1) and kept beside both. An authority that somebody
    else signed gives a key that waits for its certificate. Raises `ValueError`, `KeyStoreError`, `Refused`.
    """
    old = ceremony.store.find(name)
    issuer_of(old)
    if successor in ceremony.store.pending_names():
        pending = ceremony.store.pending(successor)
        _check_successor(pending.predecessor, name, successor)
        return pending
    new = ceremony.found(successor)
    if new is not None:
        _check_successor(new.predecessor, name, successor)
        ceremony.transcript.authority(new, found=True)
    else:
        placed = _placed(parent, addresses)
        made = _successor(ceremony, old, successor, algorithm=algorithm, days=days, parent=parent, placed=placed)
        if isinstance(made, PendingKey):
            return made
        new = made
    missing = [each for each in new.links if each not in old.links]
    if missing:  # behind those that lead to the key before it
        ceremony.store.replace(name, links=(*old.links, *missing))
    if f"{name}-ra" in ceremony.store.names():
        ceremony.ra(f"{successor}-ra", new)
    return new


def parent_of(ceremony: Ceremony, key: StoredKey) -> StoredKey | None:
    """The authority above a key, if its key is in the store: by key and subject, whatever its certificate is now."""
    if len(key.chain) < 2:
        return None
    for name in ceremony.store.names():
        facts = ceremony.store.facts(name)
        if facts.kind is KeyKind.ISSUER and _same(ceremony.store.chain(name)[0], key.chain[1]):
            return ceremony.store.find(name)
    return None


def _successor(
    ceremony: Ceremony,
    old: StoredKey,
    name: str,
    *,
    algorithm: str | None,
    days: int | None,
    parent: StoredKey | None,
    placed: tuple[frozenset[x509.ObjectIdentifier], Extras],
) -> StoredKey | PendingKey:
    algorithm = algorithm or ceremony.store.facts(old.name).algorithm
    above = parent or parent_of(ceremony, old)
    if above is None and len(old.chain) > 1:
        return request_like(ceremony, old, name, algorithm)
    begins, ends = _term(ceremony, old.certificate, days)
    if above is not None:
        issuer = _able(above, old)
        begins, ends = max(begins, issuer.not_before), min(ends, issuer.not_after)
    private_key = ceremony.make(name, algorithm, KeyKind.ISSUER)
    if above is None:
        identifier = key_identifier(spki_of(private_key))
        issuer = new_root(name, private_key, old.certificate.subject, identifier, term=(begins, ends))
    leave_out, more = placed
    certificate = copied(
        issuer,
        old.certificate,
        ceremony.note,
        not_before=begins,
        not_after=ends,
        private_key=private_key,
        leave_out=leave_out,
        more=more,
    )
    chain = (certificate,) if above is None else (certificate, *above.chain)
    links = _links(ceremony, old, issuer, certificate) if above is None else ()
    return ceremony.kept(StoredKey(name, KeyKind.ISSUER, private_key, chain, old.ceiling, links, old.name))


def _links(
    ceremony: Ceremony, old: StoredKey, new: Issuer, certificate: x509.Certificate
) -> tuple[x509.Certificate, ...]:
    """OldWithNew, good as long as the old certificate; NewWithOld, from the new one's begin to the old one's end."""
    begins, ends = _seconds(old.certificate)
    begun, last = _seconds(certificate)
    if ends <= ceremony.now:
        ceremony.transcript.say(f"The certificate of {old.name} has expired: no links are made between the two")
        return ()
    old_with_new = copied(new, old.certificate, ceremony.note, not_before=begins, not_after=ends, leave_out=_ADDRESSES)
    new_with_old = copied(
        issuer_of(old), certificate, ceremony.note, not_before=begun, not_after=min(ends, last), leave_out=_ADDRESSES
    )
    ceremony.transcript.certificate("OldWithNew (RFC 4210, 4.4)", old_with_new)
    ceremony.transcript.certificate("NewWithOld (RFC 4210, 4.4)", new_with_old)
    return old_with_new, new_with_old


def _placed(parent: StoredKey | None, addresses: Extras | None) -> tuple[frozenset[x509.ObjectIdentifier], Extras]:
    """What of the old certificate's addresses is left out and what comes instead: another parent has other ones."""
    return (frozenset(), []) if parent is None else (_ADDRESSES, addresses or [])


def _able(above: StoredKey, key: StoredKey) -> Issuer:
    """The issuer above a key, if it may sign for it: path length and name constraints. Raises `ValueError`."""
    issuer = issuer_of(above)
    if key.kind is KeyKind.ISSUER:
        if not above.ceiling.authorities:
            raise ValueError(f"{above.name} signs no authorities")
        room, wanted = path_length_of(above.chain), _path_length(key.certificate)
        if room is not None and (wanted is None or wanted >= room):
            raise ValueError(f"path length: {above.name} has no room for {key.name} below it")
        over = beyond(bounds_of(key.certificate), issuer.bounds)
        if over is not None:
            raise ValueError(f"permitted {over} of {key.name} is not within the name constraints of {above.name}")
    return issuer


def _path_length(certificate: x509.Certificate) -> int | None:
    basic = extension(certificate, x509.BasicConstraints)
    return None if basic is None else basic.path_length


def _term(ceremony: Ceremony, certificate: x509.Certificate, days: int | None) -> tuple[int, int]:
    """When a new certificate begins and ends, in seconds since the epoch: as long as the one before, or `days`."""
    begins, ends = _seconds(certificate)
    count = days or ceil((ends - begins) / DAY)
    return ceremony.now - DAY, ceremony.now + (count - 1) * DAY


def _seconds(certificate: x509.Certificate) -> tuple[int, int]:
    return int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp())


def _below(ceremony: Ceremony, key: StoredKey) -> list[tuple[str, int]]:
    """The keys whose chain goes through a key, under whichever of its certificates, and where it stands there."""
    found = []
    for name in ceremony.store.names():
        chain = ceremony.store.chain(name)
        place = next((n for n, each in enumerate(chain) if n > 0 and _same(each, key.certificate)), None)
        if place is not None:
            found.append((name, place))
    return found


def _same(one: x509.Certificate, other: x509.Certificate) -> bool:
    return one.subject == other.subject and one.public_key() == other.public_key()


def _check_successor(predecessor: str, name: str, successor: str) -> None:
    if predecessor != name:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {successor} exists and does not follow {name}")
