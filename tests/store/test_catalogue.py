"""The catalogue: what was declared comes back whole, at a version that says when to look again."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from gateway.domain.application import EnrollmentSettings, EstSettings
from gateway.store import catalogue
from gateway.store.unit import Duplicate, Store, Unit
from tests.store import things


def declare(unit: Unit) -> None:
    catalogue.save_authority(unit, things.authority())
    catalogue.save_policy(unit, things.policy())
    catalogue.save_profile(unit, things.profile())
    catalogue.save_application(unit, things.application())
    catalogue.save_settings(unit, "application", "profile", things.settings())


@pytest.mark.parametrize(
    "noun", [things.authority(), things.policy(), things.profile(), things.profile().defaults, things.application()]
)
def test_the_nouns_of_these_tests_leave_no_field_at_its_default(noun: object):
    """Otherwise a field that is not stored would come back right by chance."""
    for field in fields(noun):  # type: ignore[arg-type]
        assert getattr(noun, field.name) != field.default, field.name


async def test_everything_declared_comes_back_as_it_was(store: Store):
    await store.write(declare)
    found = await store.read(catalogue.load)
    assert found.authorities == (things.authority(),)
    assert found.policies == (things.policy(),)
    assert found.profiles == (things.profile(),)
    assert found.applications == (things.application(),)
    (pair,) = found.pairs
    assert (pair.application, pair.profile, pair.authority, pair.settings) == (
        things.application(),
        things.profile(),
        things.authority(),
        things.settings(),
    )
    assert found.pair("demo", "tls-server") is pair
    assert found.pair_by_id("application", "profile") is pair
    assert found.pair_by_label("demo.tls-server") is pair
    assert found.pair("demo", "other") is None
    assert found.pair_by_id("application", "other") is None
    assert found.pair_by_label("other") is None


async def test_every_change_has_a_version_of_its_own_and_no_change_has_none(store: Store):
    empty = await store.read(catalogue.load)
    assert empty.version == await store.read(catalogue.version)
    await store.write(declare)
    versions = [await store.read(catalogue.version)]
    assert versions[0] > empty.version
    assert await store.write(lambda unit: catalogue.attach(unit, "application", "profile")) is False
    assert await store.read(catalogue.version) == versions[0]
    for change in (
        lambda unit: catalogue.save_policy(unit, replace(things.policy(), max_validity=timedelta(days=1))),
        lambda unit: catalogue.save_settings(unit, "application", "profile", EnrollmentSettings()),
        lambda unit: catalogue.detach(unit, "application", "profile"),
        lambda unit: catalogue.attach(unit, "application", "profile"),
    ):
        await store.write(change)
        versions.append(await store.read(catalogue.version))
    assert sorted(set(versions)) == versions
    assert (await store.read(catalogue.load)).version == versions[-1]


async def test_a_changed_policy_counts_for_the_profiles_that_were_saved_before(store: Store):
    await store.write(declare)
    stricter = replace(things.policy(), max_validity=timedelta(days=1))
    await store.write(lambda unit: catalogue.save_policy(unit, stricter))
    found = await store.read(catalogue.load)
    assert found.profiles[0].policy == stricter
    assert found.pairs[0].profile.policy == stricter


async def test_an_attached_profile_has_all_doors_closed_and_a_detached_one_is_gone(store: Store):
    await store.write(declare)
    await store.write(lambda unit: catalogue.detach(unit, "application", "profile"))
    assert (await store.read(catalogue.load)).pairs == ()
    assert await store.write(lambda unit: catalogue.detach(unit, "application", "profile")) is False
    assert await store.write(lambda unit: catalogue.attach(unit, "application", "profile")) is True
    (pair,) = (await store.read(catalogue.load)).pairs
    assert pair.settings.enabled() == frozenset()


async def test_a_declared_label_replaces_the_plain_one_and_cannot_take_anothers(store: Store):
    """E3: what stands in /.well-known/est/{label}/ leads to one pair, and nobody can declare another's away."""

    def two(unit: Unit) -> None:
        declare(unit)
        catalogue.save_application(unit, replace(things.application(), id="second", name="second"))
        catalogue.save_settings(unit, "second", "profile", EnrollmentSettings(est=EstSettings(label="demo.tls-server")))

    await store.write(two)
    found = await store.read(catalogue.load)
    taken = found.pair_by_label("demo.tls-server")
    assert taken is not None
    assert taken.application.name == "demo"
    own = EnrollmentSettings(est=EstSettings(label="own"))
    await store.write(lambda unit: catalogue.save_settings(unit, "application", "profile", own))
    found = await store.read(catalogue.load)
    assert found.pair_by_label("own") is found.pair("demo", "tls-server")
    with pytest.raises(Duplicate):
        await store.write(lambda unit: catalogue.save_settings(unit, "second", "profile", own))


@pytest.mark.parametrize(
    "save",
    [
        lambda unit: catalogue.save_authority(unit, replace(things.authority(), id="other")),
        lambda unit: catalogue.save_policy(unit, replace(things.policy(), id="other")),
        lambda unit: catalogue.save_profile(unit, replace(things.profile(), id="other")),
        lambda unit: catalogue.save_application(unit, replace(things.application(), id="other")),
    ],
)
async def test_a_name_belongs_to_one_thing_of_its_kind(store: Store, save: object):
    await store.write(declare)
    with pytest.raises(Duplicate):
        await store.write(save)  # type: ignore[arg-type]
    assert len((await store.read(catalogue.load)).pairs) == 1
