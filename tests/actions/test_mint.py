"""Bearer tokens: one identity, its roles, a hash in the store, an event in the audit (D10, D17)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.actions.mint import PREFIX, Bearer, mint, new_token
from gateway.domain.access import ApplicationRole, Identity, IdentityKind, ProductRole
from gateway.domain.application import Application
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.store import access, catalogue
from gateway.store.unit import Store, Unit, open_store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/store.sqlite") as opened:
        yield opened


async def give(store: Store, bearer: Bearer, token: str) -> None:
    await mint(store, bearer, token, actor="operator:test", now=NOW, dice=secrets.token_bytes)


async def owner(store: Store, token: str, at: datetime = NOW) -> Identity | None:
    digest = hashlib.sha256(token.encode()).digest()
    return await store.read(lambda unit: access.find_token(unit, digest, at))


def test_tokens_are_long_different_and_recognisable() -> None:
    made = {new_token(secrets.token_bytes) for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith(PREFIX) and len(token) >= len(PREFIX) + 43 for token in made)


async def test_a_token_leads_to_its_identity_until_it_ends(store: Store) -> None:
    token = new_token(secrets.token_bytes)
    await give(store, Bearer("ci", expires=NOW + timedelta(days=1)), token)
    identity = await owner(store, token)
    assert identity is not None
    assert (identity.name, identity.kind) == ("ci", IdentityKind.MACHINE)
    assert identity.product_role is ProductRole.PRODUCT_MEMBER
    assert await owner(store, token, NOW + timedelta(days=2)) is None
    assert await owner(store, token + "x") is None


async def test_a_second_token_is_the_same_identitys_and_adds_its_roles(store: Store) -> None:
    await store.write(lambda unit: catalogue.save_application(unit, Application("a1", "payments-api", NOW)))
    first, second = new_token(secrets.token_bytes), new_token(secrets.token_bytes)
    await give(store, Bearer("ci"), first)
    await give(store, Bearer("ci", roles={"a1": ApplicationRole.OPERATOR}), second)
    identity = await owner(store, second)
    assert identity is not None
    assert (await owner(store, first)) == identity
    roles = await store.read(lambda unit: access.memberships(unit, identity.id))
    assert roles == {"a1": ApplicationRole.OPERATOR}


async def test_the_same_token_again_changes_nothing(store: Store) -> None:
    token = new_token(secrets.token_bytes)
    for _ in range(2):
        await give(store, Bearer("admin", ProductRole.PRODUCT_ADMIN), token)
    identity = await owner(store, token)
    assert identity is not None

    def count(unit: Unit) -> int:
        return len(access.tokens(unit, identity.id))

    assert await store.read(count) == 1


async def test_a_token_never_makes_an_administrator_of_somebody_who_is_none(store: Store) -> None:
    await give(store, Bearer("ci"), new_token(secrets.token_bytes))
    token = new_token(secrets.token_bytes)
    with pytest.raises(Refusal) as refusal:
        await give(store, Bearer("ci", ProductRole.PRODUCT_ADMIN), token)
    assert refusal.value.reason is RefusalReason.CONFLICT
    assert await owner(store, token) is None
