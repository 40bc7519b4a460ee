"""Whatever complete list somebody holds, with the newest delta it says what a list made now would (RFC 5280, 5.2.4).

The real actions on a real store, under sequences of issuing, revoking, holding, releasing, waiting, expiring, turning
deltas on and off, spreading over other partitions and moving; what is true is kept beside in plain dictionaries.
"""

import contextlib
import datetime as dt
import tempfile
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.actions.publish import Publications, delta_list, outlook, renew_revocation_lists, revocation_list
from gateway.actions.resources import Resources
from gateway.domain.authority import Authority, ListSettings
from gateway.domain.revocation import Change, RevocationReason, change
from gateway.outbound.signer import ENTRY
from gateway.store import certificates, revocation_deltas, revocation_lists, revocations
from gateway.store.revocation_lists import WHOLE
from gateway.store.revocations import EVERY_PARTITION
from gateway.store.unit import Store, StoreUnavailable, Unit, open_store
from tests.doubles.issuer import NOW, Issuer, dice
from tests.store import things

HOUR = dt.timedelta(hours=1)
DAY = 24 * HOUR
REMOVED = RevocationReason.REMOVE_FROM_CRL
HOLD = RevocationReason.CERTIFICATE_HOLD
LIFETIME = 3 * DAY


class Signed(msgspec.Struct, frozen=True):
    """What a list says, in place of its DER."""

    number: int
    this_update: int
    next_update: int
    entries: dict[int, int]
    names: tuple[str, ...]
    base: int | None
    freshest: tuple[str, ...]

    def holds(self, at: dt.datetime) -> bool:
        return self.this_update <= at.timestamp() < self.next_update


class Recorder:
    """Signs nothing, says what it was asked; never twice under one number, whatever became of the first."""

    def __init__(self) -> None:
        self.used: set[tuple[tuple[str, ...], int]] = set()

    async def sign_crl(self, key: str, **ask: Any) -> bytes:
        scope = tuple(ask["names"][-1:]), ask["number"]  # the name that it had first
        assert scope not in self.used, "RFC 5280, 5.2.3"
        self.used.add(scope)
        entries = {int.from_bytes(serial): reason for serial, _, reason in ENTRY.iter_unpack(ask["entries"])}
        base = ask.get("base_number")
        assert base is not None or REMOVED.code not in entries.values(), "RFC 5280, 5.3.1: in delta lists alone"
        assert base is None or not ask.get("freshest"), "RFC 5280, 5.2.6: not in delta lists"
        return msgspec.json.encode(
            Signed(
                ask["number"],
                ask["this_update"],
                ask["next_update"],
                entries,
                tuple(ask["names"]),
                base,
                tuple(ask.get("freshest", ())),
            )
        )


class Dying:
    """A store that is gone once some numbers were claimed: what is signed under the last of them is never kept."""

    def __init__(self, store: Store, writes: int) -> None:
        self.read = store.read
        self._store = store
        self._left = writes

    async def write(self, work: Any) -> Any:
        if not self._left:
            raise StoreUnavailable("killed")
        self._left -= 1
        return await self._store.write(work)


@dataclass(frozen=True)
class Known:
    """A certificate, and in which partitions' scope it is: its own, every (nobody knows), or none but the whole."""

    id: str
    serial: int
    not_after: dt.datetime
    partition: int | None


class World:
    """An authority, two workers, and everything that was ever published of it."""

    def __init__(self, store: Store) -> None:
        self.now = NOW
        self.store = store
        self.resources = Resources(store, Recorder(), lambda: None, lambda: self.now, dice)  # type: ignore[arg-type]
        self.authority: Authority = replace(
            Issuer().authority, id="authority", lists=ListSettings(lifetime=LIFETIME, refresh=DAY)
        )
        self.host = "http://a.example"
        self.workers = [Publications(), Publications()]
        self.known: list[Known] = []
        self.reasons: dict[int, RevocationReason] = {}
        self.complete: dict[int, dict[int, Signed]] = {}
        self.deltas: dict[int, dict[int, Signed]] = {}

    def settle(self, **lists: object) -> None:
        made = replace(self.authority.lists, **lists)  # type: ignore[arg-type]
        urls = [f"{self.host}/ca/x/{{partition}}.crl" if made.partitions else f"{self.host}/ca/x.crl"]
        self.authority = replace(self.authority, lists=made, crl_urls=tuple(urls))

    async def issue(self, days: float, everywhere: bool) -> None:
        made = things.certificate(not_after=self.now + days * DAY, created_at=self.now)
        serial = int(made.serial, 16)
        partition = EVERY_PARTITION if everywhere else self.authority.partition(serial)
        made = msgspec.structs.replace(made, crl_partition=partition)
        await self.store.write(lambda unit: certificates.record(unit, made))
        self.known.append(Known(made.id, serial, made.not_after, partition))

    async def revoke(self, which: int, reason: RevocationReason) -> None:
        if not self.known:
            return
        one = self.known[which % len(self.known)]
        wanted = change(self.reasons.get(one.serial), reason)
        if wanted not in {Change.REVOKE, Change.RELEASE}:
            return

        def unit(unit: Unit) -> None:
            found = certificates.find(unit, one.id)
            assert found is not None
            revision = revocations.begin(unit, "authority")
            certificates.change_revocation(unit, found, reason, since=self.now, at=self.now, revision=revision)

        await self.store.write(unit)
        if wanted is Change.RELEASE:
            del self.reasons[one.serial]
        else:
            self.reasons[one.serial] = reason

    async def round(self, worker: int) -> None:
        """What the job does twice a second; then everybody who holds anything must know all."""
        publications = self.workers[worker]
        publications.rest("authority", 0)
        await renew_revocation_lists(self.resources, publications, self.authority, await outlook(self.resources))
        seen = await outlook(self.resources)
        for _, part in seen.lists:
            await self.look(part)

    async def kill(self, worker: int, writes: int) -> None:
        """A round that ends by kill -9 after so many commits, and a start."""
        self.workers[worker].rest("authority", 0)
        seen = await outlook(self.resources)
        dying = replace(self.resources, store=Dying(self.store, writes))  # type: ignore[arg-type]
        with contextlib.suppress(StoreUnavailable):
            await renew_revocation_lists(dying, self.workers[worker], self.authority, seen)
        self.workers[worker] = Publications()
        await self.store.write(revocation_lists.give_all_back)
        for (_, part), state in (await outlook(self.resources)).lists.items():
            if state.number:
                await self.keep(part)

    async def ask(self, worker: int) -> None:
        """Somebody fetches a list and what it says its delta is, before the job had its turn."""
        complete = await revocation_list(self.resources, self.workers[worker], self.authority)
        assert complete is not None
        found = await delta_list(self.resources, self.workers[worker], self.authority)
        assert found is not None or not complete.freshest
        await self.keep(WHOLE)

    async def keep(self, part: int) -> tuple[Signed, Signed | None]:
        """What is published of a part now; everything that ever was is held by somebody."""

        found = await self.store.read(lambda unit: revocation_lists.find(unit, "authority", part))
        assert found is not None
        newest = msgspec.json.decode(found[1], type=Signed)
        published = self.complete.setdefault(part, {})
        deltas = self.deltas.setdefault(part, {})
        numbers = [0, *published, *deltas]
        assert newest.number in published or newest.number > max(numbers), "RFC 5280, 5.2.3"
        published[newest.number] = newest
        made = await self.store.read(lambda unit: revocation_deltas.find(unit, "authority", part))
        delta = None if made is None else msgspec.json.decode(made[1], type=Signed)
        if delta is not None:
            assert delta.number in deltas or delta.number > max(numbers), "RFC 5280, 5.2.3"
            deltas[delta.number] = delta
        return newest, delta

    async def look(self, part: int) -> None:
        newest, delta = await self.keep(part)
        published, deltas = self.complete[part], self.deltas[part]
        assert newest.holds(self.now)
        assert newest.freshest == self.authority.delta_addresses(None if part == WHOLE else part)
        assert newest.freshest == self.authority.delta_addresses(None if part == WHOLE else part)
        each = sorted([*published.values(), *deltas.values()], key=lambda one: one.number)
        assert [one.this_update for one in each] == sorted({one.this_update for one in each}), "5.2.3"

        truth = self.truth(part)
        if not newest.freshest:
            assert self.living(newest.entries) == truth, "without deltas a list follows each change"
        named = [one for one in published.values() if one.freshest]
        for held in named:
            if not held.holds(self.now) or held.names != named[-1].names:
                continue
            assert delta is not None
            assert delta.base is not None
            assert delta.holds(self.now)
            assert delta.base in published, "the base is published as a complete list"
            assert delta.base <= held.number < delta.number, "5.2.4, c and d"
            assert delta.names == held.names, "5.2.4, b"
            together = {serial: why for serial, why in {**held.entries, **delta.entries}.items() if why != REMOVED.code}
            assert self.living(together) == truth
        if delta is not None and newest.freshest:
            listed = {serial for one in published.values() for serial in one.entries}
            for one in self.in_scope(part):
                if one.serial in self.reasons:
                    assert one.serial in delta.entries or one.serial in listed, "a notice is on one complete list"

    def in_scope(self, part: int) -> list[Known]:
        return [one for one in self.known if part == WHOLE or one.partition in (part, EVERY_PARTITION)]

    def truth(self, part: int) -> dict[int, int]:
        all_of_them = {
            one.serial: self.reasons[one.serial].code for one in self.in_scope(part) if one.serial in self.reasons
        }
        return self.living(all_of_them)

    def living(self, entries: dict[int, int]) -> dict[int, int]:
        ends = {one.serial: one.not_after for one in self.known}
        return {serial: why for serial, why in entries.items() if self.now < ends[serial]}


workers = st.sampled_from((0, 1))
steps = st.one_of(
    st.tuples(st.just("issue"), st.sampled_from((0.1, 1.5, 5, 90)), st.booleans()),
    st.tuples(
        st.just("revoke"),
        st.integers(0, 9),
        st.sampled_from((RevocationReason.SUPERSEDED, RevocationReason.KEY_COMPROMISE, HOLD, HOLD, REMOVED, REMOVED)),
    ),
    st.tuples(st.just("pass"), st.sampled_from((dt.timedelta(seconds=3), HOUR / 3, 13 * HOUR, DAY, 2.5 * DAY))),
    st.tuples(st.just("round"), workers),
    st.tuples(st.just("round"), workers),
    st.tuples(st.just("restart"), workers),
    st.tuples(st.just("ask"), workers),
    st.tuples(st.just("kill"), workers, st.integers(1, 7)),
    st.tuples(st.just("deltas"), st.booleans()),
    st.tuples(st.just("partitions"), st.integers(0, 2)),
    st.tuples(st.just("move"), st.sampled_from(("http://a.example", "http://b.example", "https://c.example"))),
)


async def live(plan: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(f"sqlite:///{folder}/store.db") as store:
            world = World(store)
            world.settle(deltas=True)
            for step in (*plan, ("pass", dt.timedelta(seconds=2)), ("round", 0)):
                match step:
                    case ("issue", days, everywhere):
                        await world.issue(days, everywhere)
                    case ("revoke", which, reason):
                        await world.revoke(which, reason)
                    case ("pass", long):
                        world.now += long
                    case ("round", worker):
                        world.now += dt.timedelta(seconds=1)  # as long as a delta rests
                        await world.round(worker)
                    case ("ask", worker):
                        world.now += dt.timedelta(seconds=1)
                        await world.ask(worker)
                    case ("kill", worker, writes):
                        world.now += dt.timedelta(seconds=1)
                        await world.kill(worker, writes)
                    case ("restart", worker):
                        world.workers[worker] = Publications()
                    case ("deltas", wanted):
                        world.settle(deltas=wanted)
                    case ("partitions", many):
                        world.settle(partitions=many)
                    case ("move", host):
                        world.host = host
                        world.settle()
                    case _:
                        raise AssertionError(step)


ISSUE, ROUND = ("issue", 90, False), ("round", 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=4, max_size=30))
@example([ISSUE, ROUND, ("revoke", 0, HOLD), ROUND, ("revoke", 0, REMOVED), ROUND])
@example([("deltas", False), ISSUE, ROUND, ("deltas", True), ("revoke", 0, HOLD), ROUND])
@example([ISSUE, ("revoke", 0, HOLD), ROUND, ("pass", DAY), ROUND, ("revoke", 0, REMOVED), ("pass", DAY), ROUND])
@example([("issue", 0.1, False), ROUND, ("revoke", 0, HOLD), ROUND, ("pass", 13 * HOUR), ROUND, ("pass", DAY), ROUND])
@example(
    [ISSUE, ROUND, ("deltas", False), ("revoke", 0, HOLD), ROUND, ("pass", 2.5 * DAY), ROUND, ("deltas", True), ROUND]
)
@example(
    [
        ("partitions", 2),
        ISSUE,
        ROUND,
        ("partitions", 0),
        ("revoke", 0, HOLD),
        ("round", 1),
        ("restart", 1),
        ("round", 1),
    ]
)
def test_a_list_in_force_and_the_newest_delta_say_what_a_list_made_now_would(plan: list[tuple[Any, ...]]):
    """RFC 5280, 5.2.3 to 5.2.6; D19."""
    trio.run(live, plan)
