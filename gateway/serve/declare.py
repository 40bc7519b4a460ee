"""Applies a declaration to a data folder, beside a running gateway or without one.

The gateway notices by the catalogue's version. Nothing is decided here: `actions.configure` compares and changes.
"""

from __future__ import annotations

import getpass
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import trio

from gateway.actions.compare import Change
from gateway.actions.configure import configure, differences
from gateway.domain.authority import PARTITION, Authority, AuthorityManifest
from gateway.domain.declaration.shape import AuthorityDeclaration, Declaration
from gateway.domain.refusal import Refusal
from gateway.serve import ceremony, folder
from gateway.serve.authorities import own_urls
from gateway.serve.opening import now, opened_store
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.store import catalogue
from gateway.store.catalogue import Catalogue

logger = logging.getLogger("muster.apply")

Show: TypeAlias = Callable[[Sequence[Change]], None]


@dataclass(frozen=True, slots=True)
class Keys:
    """Where authorities' keys are made: a folder's key store, under its secret."""

    settings: Settings
    secret: str

    async def make(self, declared: AuthorityDeclaration, parent: Authority | None) -> AuthorityManifest:
        """Make an authority's key and certificate, or find what an interrupted run has made. Raises `CannotStart`."""
        logger.info("an authority's key is made", extra={"authority": declared.name})
        return await trio.to_thread.run_sync(ceremony.authority, self.settings, self.secret, declared, parent)


async def apply(settings: Settings, declaration: Declaration, show: Show, *, dry_run: bool) -> None:
    """Show what a declaration changes and, unless this is a dry run, change it.

    Raises `CannotStart` where there is no whole data folder, or somebody else changed the catalogue meanwhile;
    `DeclarationError` where the declaration contradicts itself or what is there.
    """
    secret = folder.require_complete(settings)
    async with opened_store(settings) as store:
        before = await store.read(catalogue.load)
        declaration = _addressed(settings, declaration, before)
        changes = await trio.to_thread.run_sync(differences, declaration, before)
        show(changes)
        if dry_run or not changes:
            return
        keys = Keys(settings, secret)
        actor = f"operator:{getpass.getuser()}"
        try:
            await configure(store, declaration, ceremony=keys.make, actor=actor, now=now(), dice=secrets.token_bytes)
        except Refusal as refusal:
            raise CannotStart(refusal.detail) from None


def _addressed(settings: Settings, declaration: Declaration, before: Catalogue) -> Declaration:
    """A new authority publishes at this gateway's own addresses, where the declaration leaves them out."""
    known = {each.name for each in before.authorities}
    silent = [each for each in declaration.authorities if each.name not in known and each.crl_urls is None]
    if not silent:
        return declaration
    authorities = [_with_urls(settings, each) if each in silent else each for each in declaration.authorities]
    return msgspec.structs.replace(declaration, authorities=authorities)


def _with_urls(settings: Settings, declared: AuthorityDeclaration) -> AuthorityDeclaration:
    own = own_urls(settings, declared.name)
    issuer, ocsp = declared.issuer_urls, declared.ocsp_urls
    lists = list(own.crl)
    if declared.crl_partitions:
        lists = [each.removesuffix(".crl") + f"/{PARTITION}.crl" for each in lists]
    return msgspec.structs.replace(
        declared,
        crl_urls=lists,
        issuer_urls=list(own.issuer) if issuer is None else issuer,
        ocsp_urls=list(own.ocsp) if ocsp is None else ocsp,
    )
