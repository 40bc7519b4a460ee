"""Certificate authorities: shared infrastructure, administered at product level."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from functools import lru_cache
from typing import Final


@unique
class AuthorityKind(StrEnum):
    """A root signs authorities only; an intermediate signs what profiles ask for; an RA serves SCEP."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


SIGNATURE_ALGORITHMS: Final[dict[str, str]] = {
    "RSA_2048": "sha256WithRSAEncryption",
    "RSA_3072": "sha256WithRSAEncryption",
    "RSA_4096": "sha256WithRSAEncryption",
    "EC_prime256v1": "ecdsa-with-SHA256",
    "EC_secp384r1": "ecdsa-with-SHA384",
    "EC_secp521r1": "ecdsa-with-SHA512",
    "ED25519": "Ed25519",
    "ML-DSA-44": "id-ml-dsa-44",
    "ML-DSA-65": "id-ml-dsa-65",
    "ML-DSA-87": "id-ml-dsa-87",
}
"""What an authority signs with, by its key's algorithm: the signer chooses the same."""


@unique
class AuthorityStatus(StrEnum):
    """Whether an authority issues."""

    ACTIVE = "active"
    DISABLED = "disabled"
    PENDING_CERTIFICATE = "pending-certificate"


@dataclass(frozen=True, slots=True)
class ListSettings:
    """How an authority's revocation lists are made (RFC 5280, 5; D19).

    `lifetime` is from thisUpdate to nextUpdate: a week outlives a long weekend without a signer. A list is signed again
    after `refresh` even when nothing changed: a day keeps what caches hold young. With `partitions`, what is issued
    names the list of its partition, which stays short. With `deltas`, a change is on a delta list at once, which lasts
    for `delta_lifetime`, and on the complete one at its next turn (5.2.4).
    """

    lifetime: timedelta = timedelta(days=7)
    refresh: timedelta = timedelta(days=1)
    partitions: int = 0
    deltas: bool = False
    delta_lifetime: timedelta = timedelta(hours=1)


PARTITION: Final = "{partition}"
"""Stands in an authority's CRL address for the number of the partition."""
_PLAIN_LIST: Final = re.compile(r"http://[^/]+/.+\.crl")


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate authority, and where its key is known to the signer.

    `key` is the name by which the signer knows the key; `ra_key` the name of the RSA key that serves SCEP for
    it, with `ra_certificate` (DER). `chain` is DER, from this authority's own certificate up to the root, the
    root included; it is empty while an external authority's certificate is awaited. The three URL lists go into what
    it issues: CRL distribution points, CA issuers, OCSP. `successor_id` names the authority that took its place, with
    another key, `predecessor_id` the one whose place it takes once it has its certificate; `links` (DER) lead whoever
    trusts one generation to the other (RFC 4210, 4.4).
    """

    id: str
    name: str
    kind: AuthorityKind
    status: AuthorityStatus
    key: str
    subject: str
    chain: tuple[bytes, ...]
    key_algorithm: str
    not_before: datetime
    not_after: datetime
    parent_id: str | None = None
    ra_key: str | None = None
    ra_certificate: bytes | None = None
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    successor_id: str | None = None
    links: tuple[bytes, ...] = ()
    lists: ListSettings = ListSettings()
    predecessor_id: str | None = None

    def partition(self, serial: int) -> int | None:
        """The partition whose list a new certificate of this serial names; None: the whole list."""
        return serial % self.lists.partitions if self.lists.partitions else None

    def crl_addresses(self, partition: int | None) -> tuple[str, ...]:
        """The distribution point's URLs for a partition, or for what names the whole list."""
        return _crl_addresses(self.crl_urls, partition)

    def delta_addresses(self, partition: int | None) -> tuple[str, ...]:
        """Where the deltas to the list of a partition, or to the whole one, are found; () if there are to be none."""
        return delta_addresses(self.crl_urls, partition) if self.lists.deltas else ()

    @property
    def issues(self) -> bool:
        """Whether it issues for profiles. One that does not goes on with its revocation lists and OCSP."""
        return self.status is AuthorityStatus.ACTIVE and self.successor_id is None

    @property
    def signature_algorithm(self) -> str:
        """The algorithm of the signatures that this authority makes."""
        return SIGNATURE_ALGORITHMS[self.key_algorithm]

    @property
    def issuers(self) -> tuple[bytes, ...]:
        """What clients are given beside a leaf: the chain without its root."""
        return self.chain[:-1]

    @property
    def root(self) -> bytes:
        """The trust anchor above this authority, DER."""
        return self.chain[-1]

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, DER."""
        return self.chain[0]


# The same few for every certificate: one set of an authority, or of each of its partitions.
@lru_cache(maxsize=1024)
def _crl_addresses(urls: tuple[str, ...], partition: int | None) -> tuple[str, ...]:
    if partition is None:
        return tuple(url for url in urls if PARTITION not in url)
    return tuple(url.replace(PARTITION, str(partition)) for url in urls)


@lru_cache(maxsize=1024)
def delta_addresses(urls: tuple[str, ...], partition: int | None) -> tuple[str, ...]:
    """Of an authority's CRL addresses those of the deltas to a partition's list, or to the whole one.

    `X-delta.crl` beside each `X.crl` of plain HTTP: whoever fetches the one can fetch the other. Where an address ends
    in `/{partition}.crl`, the whole list is what stands there without it; below a host at least.
    """
    if partition is None:
        lists = tuple(url.replace(f"/{PARTITION}.crl", ".crl") for url in urls)
    else:
        lists = tuple(url.replace(PARTITION, str(partition)) for url in urls if PARTITION in url)
    plain = (url for url in lists if _PLAIN_LIST.fullmatch(url) and PARTITION not in url)
    return tuple(dict.fromkeys(url.removesuffix(".crl") + "-delta.crl" for url in plain))


@dataclass(frozen=True, slots=True)
class AuthorityManifest:
    """What a key ceremony hands over: certificates in DER and the names by which the signer knows the keys.

    `chain` runs from the authority's own certificate up to the root, both included. `links` are OldWithNew and
    NewWithOld of a root's new key.
    """

    key: str
    chain: tuple[bytes, ...]
    ra_key: str | None = None
    ra_certificate: bytes | None = None
    links: tuple[bytes, ...] = ()
