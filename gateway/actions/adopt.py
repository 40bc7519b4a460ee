"""Take over what a key ceremony made: an authority, and its certificates as rows of the inventory. Signs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.domain.authority import Authority, AuthorityKind, AuthorityManifest, AuthorityStatus, ListSettings
from gateway.domain.certificate import Certificate
from gateway.domain.declaration.nouns import Problems, lists_of
from gateway.domain.declaration.shape import AuthorityDeclaration
from gateway.domain.identifier import new_id
from protocols.pkix import certificate as reader
from protocols.pkix.names import rfc4514


@dataclass(frozen=True, slots=True)
class Urls:
    """What goes into the certificates that an authority issues: where its list, its certificate, its OCSP are."""

    crl: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    ocsp: tuple[str, ...] = ()


def authority(
    id: str,  # noqa: A002 - the noun's own word
    declared: AuthorityDeclaration,
    manifest: AuthorityManifest,
    parent: Authority | None,
) -> Authority:
    """The authority as the ceremony made it; the certificate says what it is, not the declaration.

    Raises protocols.exchange.Malformed for a certificate that cannot be read.
    """
    own = reader.read(manifest.chain[0])
    return Authority(
        id=id,
        name=declared.name,
        kind=AuthorityKind.ROOT if parent is None else AuthorityKind.INTERMEDIATE,
        status=AuthorityStatus.ACTIVE,
        key=manifest.key,
        subject=rfc4514(own.subject or ()),
        chain=manifest.chain,
        key_algorithm=own.key_algorithm or declared.key_algorithm,
        not_before=own.not_before,
        not_after=own.not_after,
        parent_id=None if parent is None else parent.id,
        ra_key=manifest.ra_key,
        ra_certificate=manifest.ra_certificate,
        crl_urls=tuple(declared.crl_urls or ()),
        issuer_urls=tuple(declared.issuer_urls or ()),
        ocsp_urls=tuple(declared.ocsp_urls or ()),
        lists=lists_of(declared, ListSettings(), Problems([], "")),
    )


def certificates(made: Authority, *, now: datetime, dice: Callable[[int], bytes]) -> tuple[Certificate, ...]:
    """The authority's own certificate, issued by its parent or itself, and its RA's, issued by it.

    One that somebody else's authority issued is not this inventory's: nobody here could revoke it.
    """
    rows = []
    if len(made.chain) == 1 or made.parent_id is not None:
        rows.append(row(made.certificate, made.parent_id or made.id, now=now, dice=dice))
    if made.ra_certificate is not None:
        rows.append(row(made.ra_certificate, made.id, now=now, dice=dice))
    return tuple(rows)


def generation(
    id: str,  # noqa: A002 - the noun's own word
    name: str,
    manifest: AuthorityManifest,
    parent_id: str | None,
    urls: Urls,
) -> Authority:
    """An authority that no declaration describes: imported, or the next generation of another.

    Raises protocols.exchange.Malformed for a certificate that cannot be read.
    """
    own = reader.read(manifest.chain[0])
    return Authority(
        id=id,
        name=name,
        kind=AuthorityKind.ROOT if len(manifest.chain) == 1 else AuthorityKind.INTERMEDIATE,
        status=AuthorityStatus.ACTIVE,
        key=manifest.key,
        subject=rfc4514(own.subject or ()),
        chain=manifest.chain,
        key_algorithm=own.key_algorithm or "",
        not_before=own.not_before,
        not_after=own.not_after,
        parent_id=parent_id,
        ra_key=manifest.ra_key,
        ra_certificate=manifest.ra_certificate,
        crl_urls=urls.crl,
        issuer_urls=urls.issuer,
        ocsp_urls=urls.ocsp,
        links=manifest.links,
    )


def renewed(before: Authority, manifest: AuthorityManifest) -> Authority:
    """The authority with another certificate for the same key; one that waited for its first is active now."""
    own = reader.read(manifest.chain[0])
    waited = before.status is AuthorityStatus.PENDING_CERTIFICATE
    return replace(
        before,
        status=AuthorityStatus.ACTIVE if waited else before.status,
        subject=rfc4514(own.subject or ()),
        chain=manifest.chain,
        not_before=own.not_before,
        not_after=own.not_after,
        ra_key=manifest.ra_key or before.ra_key,
        ra_certificate=manifest.ra_certificate or before.ra_certificate,
    )


def row(der: bytes, issuer_id: str, *, now: datetime, dice: Callable[[int], bytes]) -> Certificate:
    """A certificate of a ceremony as a row of the inventory."""
    facts = reader.read(der)
    return Certificate(
        id=new_id(now, dice),
        serial=f"{facts.serial:x}",
        issuer_id=issuer_id,
        der=der,
        subject=rfc4514(facts.subject or ()),
        sans=(),  # an authority has no alternative names
        not_before=facts.not_before,
        not_after=facts.not_after,
        sha1=facts.sha1.hex(),
        sha256=facts.sha256.hex(),
        spki_sha256=facts.spki_sha256.hex(),
        key_algorithm=facts.key_algorithm or "",
        signature_algorithm=facts.signature_algorithm,
        source="ceremony",
        created_at=now,
    )
