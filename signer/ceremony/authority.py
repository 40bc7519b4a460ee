"""The making of authorities and RAs in one opened store. What exists is found and kept, whatever else is asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography import x509

from signer.ceremony.certify import AUTHORITY_USAGES, Make, Note, ask_for, generated, issued, self_signed
from signer.ceremony.listening import listen
from signer.ceremony.manifest import Listening, Manifest, made
from signer.ceremony.plan import AUTHORITY_DAYS, DAY, ROOT_DAYS, Plan, extras, within_parent
from signer.ceremony.transcript import Transcript
from signer.issuance.issuer import issuer_of
from signer.journal.entry import CEREMONY, LISTENER
from signer.keystore.failures import KeyExists, KeyStoreError, StoreFailure
from signer.keystore.key import Ceiling, KeyKind, StoredKey
from signer.keystore.mechanism import PrivateKey
from signer.keystore.softkey import SoftKeyStore

RA_DAYS: Final = 5 * 365 + 1
_COMMON_NAME: Final = "2.5.4.3"

Write: TypeAlias = Callable[[str, str, x509.Certificate], None]  # the journal's verb, the issuer's key, what it signed


class Ceremony:
    """The making of authorities in one opened store, at one time (`now`, seconds since the epoch).

    `make` makes their keys, in software unless it says otherwise. `write` writes down what is signed, in the journal.
    """

    def __init__(
        self,
        store: SoftKeyStore,
        *,
        now: int,
        make: Make | None = None,
        transcript: Transcript | None = None,
        write: Write | None = None,
    ) -> None:
        self.store = store
        self.now = now
        self.make = make or _in_software
        self._write = write or _unwritten
        self.note: Note = partial(self._write, CEREMONY)
        self.transcript = transcript or Transcript(lambda: now)

    def authority(self, plan: Plan) -> StoredKey:
        """The authority of that name: found, or made. Raises `KeyStoreError`, `Refused`, `ValueError`."""
        found = self.found(plan.name)
        if found is not None:
            issuer_of(found)  # raises where the name is an RA's
            self.transcript.authority(found, found=True)
            return found
        plan = within_parent(plan)
        private_key = self.make(plan.name, plan.algorithm, KeyKind.ISSUER)
        ask = msgspec.structs.replace(
            ask_for(
                private_key,
                plan.name,
                now=self.now,
                days=plan.days,
                subject=plan.subject,
                key_usages=list(AUTHORITY_USAGES),
            ),
            ca=True,
            path_length=plan.path_length,
            crl_urls=list(plan.crl_urls),
            issuer_urls=list(plan.issuer_urls),
            ocsp_urls=list(plan.ocsp_urls),
        )
        if plan.parent is None:
            chain: tuple[x509.Certificate, ...] = (self_signed(plan.name, private_key, ask, extras(plan), self.note),)
        else:
            chain = (issued(plan.parent, ask, extras(plan), self.note), *plan.parent.chain)
        return self.kept(StoredKey(plan.name, KeyKind.ISSUER, private_key, chain, ceiling_of(plan)))

    def ra(self, name: str, authority: StoredKey) -> StoredKey:
        """The RA of that name for an authority: found, or made. RSA, since SCEP encrypts to it (RFC 8894, 2.1)."""
        found = self.found(name)
        if found is not None:
            if found.kind is not KeyKind.RA:
                raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} exists and is not an RA's")
            self.transcript.authority(found, found=True)
            return found
        private_key = self.make(name, "RSA_2048", KeyKind.RA)
        ask = ask_for(
            private_key,
            name,
            now=self.now,
            days=RA_DAYS,
            subject=_registration(authority),
            key_usages=["digitalSignature", "keyEncipherment"],
        )
        chain = (issued(authority, ask, [], self.note), *authority.chain)
        return self.kept(StoredKey(name, KeyKind.RA, private_key, chain, Ceiling(max_validity=0)))

    def tls(self, folder: Path, hosts: list[str], authority: StoredKey, *, anew: bool) -> Listening:
        """A listener's key and chain in `folder`: those that stand there, unless they do not fit or `anew`."""
        return listen(folder, hosts, authority, now=self.now, anew=anew, note=partial(self._write, LISTENER))

    def found(self, name: str) -> StoredKey | None:
        """The key of that name, None if there is none. Raises `KeyStoreError`."""
        try:
            return self.store.find(name)
        except KeyStoreError as error:
            if error.failure is StoreFailure.MISSING and name not in self.store.names():
                return None
            raise

    def kept(self, key: StoredKey) -> StoredKey:
        """A key that was made, stored, and said."""
        with contextlib.suppress(KeyExists):  # another ceremony was faster; its key is the one that counts
            self.store.add(key)
        stored = self.store.find(key.name)
        self.transcript.authority(stored)
        return stored


def ceiling_of(plan: Plan) -> Ceiling:
    """What an authority may sign follows from its place: a root authorities only, the last one none."""
    below = None if plan.path_length is None else plan.path_length - 1
    return Ceiling(
        max_validity=(plan.leaf_days if plan.path_length == 0 else plan.days) * DAY,
        leaves=plan.parent is not None,
        authorities=plan.path_length != 0,
        path_length=below if plan.path_length else None,
    )


def first(
    ceremony: Ceremony, tls: Path, hosts: list[str], urls: tuple[tuple[str, ...], ...] = ((), (), ())
) -> Manifest:
    """A root, an issuing authority, an RA for SCEP and a TLS certificate: what a gateway starts with.

    `urls` say where the root's list, its certificate and its OCSP responder are.
    """
    # Installations must not share a name, or a client that knows two of them takes one root for the other.
    mark = os.urandom(4).hex().upper()
    organization = ("2.5.4.10", "Muster")
    root = ceremony.authority(
        Plan("root", [organization, (_COMMON_NAME, f"Muster Root CA {mark}")], "EC_prime256v1", None, 1, ROOT_DAYS)
    )
    mark = root.certificate.subject.rfc4514_string().partition("Root CA ")[2][:8]
    subject = [organization, (_COMMON_NAME, f"Muster Issuing CA {mark}")]
    lists, issuers, responders = urls
    plan = Plan("issuing", subject, "EC_prime256v1", root, 0, AUTHORITY_DAYS)
    plan = replace(plan, crl_urls=lists, issuer_urls=issuers, ocsp_urls=responders)
    issuing = ceremony.authority(plan)
    ra = ceremony.ra("issuing-ra", issuing)
    return Manifest(made(root), made(issuing), made(ra), ceremony.tls(tls, hosts, issuing, anew=False))


def _unwritten(_verb: str, _issuer: str, _certificate: x509.Certificate) -> None:
    """For ceremonies that nobody will ask about."""


def _in_software(_name: str, algorithm: str, _kind: KeyKind) -> PrivateKey:
    return generated(algorithm)


def _registration(authority: StoredKey) -> list[tuple[str, str]]:
    subject = [(each.oid.dotted_string, str(each.value)) for each in authority.certificate.subject]
    return [(oid, f"{value[:61]} RA" if oid == _COMMON_NAME else value) for oid, value in subject]
