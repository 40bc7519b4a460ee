"""Identities, tokens and members: what is kept of them opens nothing by itself (D10)."""

from datetime import timedelta
from hashlib import sha256

import msgspec
import pytest

from gateway.domain.access import ApplicationRole, Identity, IdentityKind, ProductRole
from gateway.store import access, catalogue
from gateway.store.unit import Duplicate, Store, Unit
from tests.store import things
from tests.store.things import NOW

MACHINE = Identity("machine", "ci", IdentityKind.MACHINE, ProductRole.PRODUCT_MEMBER)
DIGEST = sha256(b"mst_secret").digest()
END = NOW + timedelta(days=1)


def give_token(unit: Unit) -> None:
    access.create_identity(unit, MACHINE, NOW)
    access.create_token(unit, "token", identity_id="machine", sha256=DIGEST, expires_at=END, at=NOW)


async def test_a_token_names_its_identity_until_it_expires_or_is_ended(store: Store):
    await store.write(give_token)
    found = await store.read(lambda unit: access.find_token(unit, DIGEST, NOW))
    assert found == msgspec.structs.replace(MACHINE, expires=END)
    assert await store.read(lambda unit: access.find_token(unit, DIGEST, END)) is None
    assert await store.read(lambda unit: access.find_token(unit, sha256(b"guess").digest(), NOW)) is None
    assert await store.write(lambda unit: access.delete_token(unit, "token")) is True
    assert await store.write(lambda unit: access.delete_token(unit, "token")) is False
    assert await store.read(lambda unit: access.find_token(unit, DIGEST, NOW)) is None


async def test_a_token_without_an_end_has_none(store: Store):
    await store.write(lambda unit: access.create_identity(unit, MACHINE, NOW))
    await store.write(
        lambda unit: access.create_token(unit, "t", identity_id="machine", sha256=DIGEST, expires_at=None, at=NOW)
    )
    assert await store.read(lambda unit: access.find_token(unit, DIGEST, NOW + timedelta(days=36500))) == MACHINE


async def test_the_last_use_of_a_token_only_moves_forward(store: Store):
    await store.write(give_token)
    for at in (NOW + timedelta(hours=2), NOW + timedelta(hours=1)):
        await store.write(lambda unit, at=at: access.touch_token(unit, DIGEST, at))
    assert await store.read(lambda unit: access.tokens(unit, "machine")) == [
        access.Token("token", NOW, END, NOW + timedelta(hours=2))
    ]


async def test_a_name_and_a_token_belong_to_one_identity(store: Store):
    await store.write(give_token)
    with pytest.raises(Duplicate):
        await store.write(lambda unit: access.create_identity(unit, msgspec.structs.replace(MACHINE, id="other"), NOW))
    with pytest.raises(Duplicate):
        await store.write(
            lambda unit: access.create_token(unit, "2", identity_id="machine", sha256=DIGEST, expires_at=None, at=NOW)
        )
    assert await store.read(lambda unit: access.find_identity(unit, "ci")) == MACHINE
    assert await store.read(lambda unit: access.find_identity(unit, "nobody")) is None


async def test_a_member_has_one_role_in_an_application(store: Store):
    def join(unit: Unit) -> None:
        access.create_identity(unit, MACHINE, NOW)
        catalogue.save_application(unit, things.application())
        access.save_member(unit, "application", "machine", ApplicationRole.AUDITOR, NOW)
        access.save_member(unit, "application", "machine", ApplicationRole.OPERATOR, NOW)

    await store.write(join)
    assert await store.read(lambda unit: access.role(unit, "application", "machine")) is ApplicationRole.OPERATOR
    assert await store.read(lambda unit: access.role(unit, "application", "nobody")) is None
    assert await store.read(lambda unit: access.memberships(unit, "machine")) == {
        "application": ApplicationRole.OPERATOR
    }
    assert await store.write(lambda unit: access.remove_member(unit, "application", "machine")) is True
    assert await store.write(lambda unit: access.remove_member(unit, "application", "machine")) is False
    assert await store.read(lambda unit: access.memberships(unit, "machine")) == {}
