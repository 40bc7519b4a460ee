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

import trio

from gateway.actions.compare import Change
from gateway.actions.configure import configure, differences
from gateway.domain.authority import Authority, AuthorityManifest
from gateway.domain.declaration.shape import AuthorityDeclaration, Declaration
from gateway.domain.refusal import Refusal
from gateway.serve import ceremony, folder
from gateway.serve.opening import now, opened_store
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.store import catalogue

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
        above = None if parent is None else parent.key
        return await trio.to_thread.run_sync(ceremony.authority, self.settings, self.secret, declared, above)


async def apply(settings: Settings, declaration: Declaration, show: Show, *, dry_run: bool) -> None:
    """Show what a declaration changes and, unless this is a dry run, change it.

    Raises `CannotStart` where there is no whole data folder, or somebody else changed the catalogue meanwhile;
    `DeclarationError` where the declaration contradicts itself or what is there.
    """
    secret = folder.require_complete(settings)
    async with opened_store(settings) as store:
        before = await store.read(catalogue.load)
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
