"""The audit chain: whole as written, and broken wherever somebody touched it (D17)."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest
import trio

from gateway.domain.audit import AuditEvent
from gateway.store import audit
from gateway.store.unit import Store, open_store
from tests.store.things import NOW

EVENTS = tuple(
    AuditEvent(
        at=NOW + timedelta(seconds=number),
        actor="token:admin",
        action="certificate.issue",
        target=f"certificate-{number}",
        outcome=("success", "refused", "failed")[number % 3],
        application_id=None if number == 2 else "application",
        detail="ein „Wort“",
        source="2001:db8::1",
        request_id=f"r{number}",
    )
    for number in range(5)
)


async def write_all(store: Store) -> None:
    for event in EVENTS:
        await store.write(lambda unit, event=event: unit.audit(event))


async def test_events_come_back_in_order_and_by_pages(store: Store):
    await write_all(store)
    entries = await store.read(audit.entries)
    assert tuple(entry.event for entry in entries) == EVENTS
    assert [entry.position for entry in entries] == [1, 2, 3, 4, 5]
    assert await store.read(lambda unit: audit.entries(unit, after=2, limit=2)) == entries[2:4]


async def test_the_chain_of_one_batch_is_the_chain_of_single_commits(url: str, tmp_path: Path):
    """However the events were grouped, the chain is the same: a batch is no unit of proof."""

    def all_at_once(unit) -> None:
        for event in EVENTS:
            unit.audit(event)

    hashes = []
    async with open_store(url) as store:
        await write_all(store)
        hashes.append([entry.hash for entry in await store.read(audit.entries)])
    async with open_store(f"sqlite:///{tmp_path}/other.db") as store:
        await store.write(all_at_once)
        hashes.append([entry.hash for entry in await store.read(audit.entries)])
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 5


INSERT = """
INSERT INTO audit (position, at, actor, action, target, outcome, detail, source, request_id, hash)
VALUES (6, 0, 'a', 'b', 'c', 'success', '', '', '', CAST('x' AS {bytes}))
"""


def tamper(url: str, *statements: str) -> None:
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as other:
            for statement in statements:
                other.execute(statement)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statements", "broken_at"),
    [
        *[
            ([f"UPDATE audit SET {change} WHERE position = 3"], 3)
            for change in (
                "at = at + 1",
                "actor = 'token:other'",
                "action = 'certificate.revoke'",
                "target = ''",
                "outcome = 'refused'",
                "application_id = 'other'",
                "detail = ''",
                "source = '192.0.2.1'",
                "request_id = 'r'",
                "hash = CAST('x' AS {bytes})",
            )
        ],
        (["DELETE FROM audit WHERE position = 1"], 1),
        (["DELETE FROM audit WHERE position = 3"], 3),
        (["DELETE FROM audit WHERE position = 5"], 5),
        (["DELETE FROM audit"], 1),
        (["UPDATE audit SET position = 6 WHERE position = 5"], 5),
        (["UPDATE audit SET position = 0 WHERE position = 1"], 1),
        (["UPDATE audit_head SET position = 4"], 6),
        (["UPDATE audit_head SET hash = CAST('x' AS {bytes})"], 6),
        (
            [
                "UPDATE audit SET position = 9 WHERE position = 2",
                "UPDATE audit SET position = 2 WHERE position = 4",
                "UPDATE audit SET position = 4 WHERE position = 9",
            ],
            2,
        ),
        (
            [
                INSERT,
            ],
            6,
        ),
        # Text cannot be moved from one field into the next without a trace.
        (["UPDATE audit SET actor = actor || action, action = '' WHERE position = 1"], 1),
    ],
)
async def test_whatever_is_touched_afterwards_is_found_at_its_place(
    store: Store, url: str, statements: list[str], broken_at: int
):
    await write_all(store)
    assert await store.read(audit.verify) is None
    kind = "BLOB" if url.startswith("sqlite") else "BYTEA"
    tamper(url, *[statement.format(bytes=kind) for statement in statements])
    assert await store.read(audit.verify) == broken_at


async def test_an_empty_chain_is_whole(store: Store):
    assert await store.read(audit.verify) is None


async def test_a_long_chain_is_verified_over_all_its_pages(store: Store, url: str):
    def many(unit) -> None:
        for number in range(2500):
            unit.audit(msgspec.structs.replace(EVENTS[0], target=str(number)))

    await store.write(many)
    assert await store.read(audit.verify) is None
    tamper(url, "UPDATE audit SET target = 'x' WHERE position = 2400")
    assert await store.read(audit.verify) == 2400


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\U0001f600", "\x7f"])
async def test_what_a_peer_wrote_never_fails_the_commit_of_its_neighbours(store: Store, text: str):
    """PostgreSQL has no NUL, and a lone surrogate has no encoding: both would end the whole batch."""
    event = msgspec.structs.replace(EVENTS[0], actor=text, target=text, detail=text, source=text, request_id=text)
    async with trio.open_nursery() as nursery:
        for each in (event, EVENTS[0]):
            nursery.start_soon(store.write, lambda unit, each=each: unit.audit(each))
    assert len(await store.read(audit.entries)) == 2
    assert await store.read(audit.verify) is None


async def test_an_event_is_refused_whose_outcome_nobody_knows(store: Store):
    """And with it its whole batch: a chain with holes would be worth nothing."""
    write: Callable[..., object] = store.write
    with pytest.raises(Exception, match=r"CHECK|check|failed"):
        await write(lambda unit: unit.audit(msgspec.structs.replace(EVENTS[0], outcome="perhaps")))  # type: ignore[misc]
    assert await store.read(audit.entries) == []
    await store.write(lambda unit: unit.audit(EVENTS[0]))
