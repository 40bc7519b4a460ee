"""SQLite when things go wrong: full disks, damaged files, other processes, kill -9."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from gateway.store import outbox
from gateway.store.unit import DamagedStore, Store, StoreUnavailable, Unit, open_store
from tests.store.things import NOW

ROOT = Path(__file__).parents[2]


def note(name: str, kind: str = "noted") -> Callable[[Unit], None]:
    return lambda unit: outbox.append(unit, kind=kind, application_id=None, subject_id=name, at=NOW)


async def noted(store: Store) -> set[str]:
    return {each.subject_id for each in await store.read(lambda unit: outbox.pending(unit, at=NOW, limit=100_000))}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nobody_else_can_read_the_file_or_its_log_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
            await store.write(note("a"))
            found = {path.name: mode(path) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert found == {f"store.db{each}": 0o600 for each in ("", "-wal", "-shm", "-hands")}


async def test_every_commit_is_flushed_to_the_disk(tmp_path: Path):
    """The promise of the group commit stands on two settings of the connection that writes."""
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        writer: sqlite3.Connection = store._writer  # type: ignore[attr-defined]
        assert writer.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not a database, but long enough to be mistaken for one. " * 40, "is not an SQLite database"),
        (b"short", "is not an SQLite database"),
        (b"SQLite format 3\0" + bytes(84), "damaged|not a database"),
    ],
)
async def test_a_file_that_is_no_database_is_said_so_in_one_sentence_and_left_alone(
    tmp_path: Path, content: bytes, sentence: str
):
    file = tmp_path / "store.db"
    file.write_bytes(content)
    with pytest.raises(DamagedStore, match=sentence):
        async with open_store(f"sqlite:///{file}"):
            pass
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == ["store.db"]


async def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path):
    file = tmp_path / "store.db"
    async with open_store(f"sqlite:///{file}"):
        pass
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedStore, match="cut off"):
        async with open_store(f"sqlite:///{file}"):
            pass


async def test_a_schema_that_was_scribbled_over_is_damaged(tmp_path: Path):
    file = tmp_path / "store.db"
    async with open_store(f"sqlite:///{file}"):
        pass
    whole = bytearray(file.read_bytes())
    whole[100:4096] = b"\xff" * 3996
    file.write_bytes(whole)
    with pytest.raises(DamagedStore):
        async with open_store(f"sqlite:///{file}"):
            pass


async def test_a_page_that_is_damaged_later_is_an_outage_for_who_needs_it(tmp_path: Path):
    file = tmp_path / "store.db"
    async with open_store(f"sqlite:///{file}") as store:
        await store.write(lambda unit: [note(f"{number:04}")(unit) for number in range(4000)])
    whole = bytearray(file.read_bytes())
    half = len(whole) // 8192 * 4096
    assert half > 60 * 4096, "the schema's own pages come first, and must stay whole"
    whole[half:] = b"\xff" * (len(whole) - half)
    file.write_bytes(whole)
    async with open_store(f"sqlite:///{file}") as store:
        with pytest.raises(StoreUnavailable):
            await noted(store)


async def test_a_row_that_cannot_be_read_holds_up_no_unit_and_no_read_behind_it(tmp_path: Path):
    def all_noted(unit: Unit) -> list[str]:
        return [each.subject_id for each in outbox.pending(unit, at=NOW, limit=10)]

    file = tmp_path / "store.db"
    async with open_store(f"sqlite:///{file}") as store:
        await store.write(note("a"))
        neighbour = sqlite3.connect(file, isolation_level=None)
        neighbour.execute("UPDATE outbox SET subject_id = CAST(X'ff41' AS TEXT)")
        for ask in (store.read, store.write):
            with pytest.raises(sqlite3.OperationalError, match="decode"):
                await ask(all_noted)
        neighbour.execute("UPDATE outbox SET subject_id = 'mended'")
        neighbour.close()
        assert await noted(store) == {"mended"}
        await store.write(note("b"))
        assert await noted(store) == {"mended", "b"}


@pytest.mark.parametrize("place", ["missing/store.db", "."])
async def test_a_place_where_no_file_can_be_is_one_sentence(tmp_path: Path, place: str):
    with pytest.raises(StoreUnavailable, match=r"store\.db|cannot"):
        async with open_store(f"sqlite:///{tmp_path}/{place}"):
            pass


async def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path: Path):
    (tmp_path / "store.db").touch()
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        await store.write(note("a"))
        assert await noted(store) == {"a"}


async def test_a_full_disk_is_an_outage_for_all_of_the_batch_and_passes(tmp_path: Path):
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        await store.write(note("before"))
        writer: sqlite3.Connection = store._writer  # type: ignore[attr-defined]
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")

        async def refused(name: str) -> None:
            with pytest.raises(StoreUnavailable, match="full"):
                await store.write(note(name, kind="k" * 20_000))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(refused, f"lost {number}")
        assert await noted(store) == {"before"}
        writer.execute("PRAGMA max_page_count = 1000000")
        await store.write(note("after", kind="k" * 20_000))
        assert await noted(store) == {"before", "after"}


async def test_another_process_that_holds_the_lock_delays_units_and_not_the_loop(tmp_path: Path):
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, note("a"))
            ticks = 0
            for _ in range(10):
                await trio.sleep(0.01)
                assert await noted(store) == set()
                ticks += 1
            other.execute("COMMIT")
        other.close()
        assert ticks == 10
        assert await noted(store) == {"a"}


async def test_a_lock_that_is_never_given_back_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.store.sqlite.BUSY_TIMEOUT", 50)
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.write(note("a"))
        other.execute("ROLLBACK")
        other.close()
        await store.write(note("b"))
        assert await noted(store) == {"b"}


FULL_DISK_AT_COMMIT = """
    import resource, sys, trio
    from datetime import UTC, datetime
    from gateway.store import outbox
    from gateway.store.unit import StoreUnavailable, open_store

    NOW = datetime(2026, 3, 1, tzinfo=UTC)

    def note(name):
        return lambda unit: outbox.append(unit, kind="noted", application_id=None, subject_id=name, at=NOW)

    async def main(path):
        async with open_store("sqlite:///" + path) as store:
            await store.write(note("before"))
            size = (1 << 20)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
            lost = 0
            for number in range(400):
                try:
                    await store.write(note(f"{number:03}"))
                    print(f"{number:03}", flush=True)
                except StoreUnavailable:
                    lost += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            await store.write(note("after"))
            print("lost", lost, flush=True)

    trio.run(main, sys.argv[1])
"""


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def test_a_write_that_fails_at_the_commit_itself_is_acknowledged_to_nobody(tmp_path: Path):
    """A limit on the file's size makes the write-ahead log fail under the commit, as a full disk does."""
    child = run(FULL_DISK_AT_COMMIT, str(tmp_path / "store.db"))
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    *acknowledged, last = output.split("\n")[:-1]
    word, lost = last.split()
    assert word == "lost"
    assert int(lost) > 10
    assert len(acknowledged) + int(lost) == 400
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        assert await noted(store) == {"before", "after", *acknowledged}


KILLED_UNDER_LOAD = """
    import sys, trio
    from datetime import UTC, datetime
    from gateway.domain.audit import AuditEvent
    from gateway.store import outbox
    from gateway.store.unit import open_store

    NOW = datetime(2026, 3, 1, tzinfo=UTC)

    async def write(store, name):
        def unit(unit):
            for half in "ab":
                outbox.append(unit, kind=half, application_id=None, subject_id=name, at=NOW)
            unit.audit(AuditEvent(NOW, "system", "a.b", name, "success"))
        await store.write(unit)
        print(name, flush=True)

    async def client(store, number):
        for turn in range(100_000):
            await write(store, f"{number}-{turn}")

    async def main(url):
        async with open_store(url) as store, trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(client, store, number)

    trio.run(main, sys.argv[1])
"""


@pytest.mark.parametrize("after", [1, 150, 900])
async def test_after_kill_9_under_load_every_acknowledged_unit_is_there_and_whole(url: str, after: int):
    from gateway.store import audit

    async with open_store(url):
        pass
    with run(KILLED_UNDER_LOAD, url) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        # The last line may have been cut in the middle.
        acknowledged += child.stdout.read().split("\n")[:-1]
    async with open_store(url) as store:
        events = await store.read(lambda unit: outbox.pending(unit, at=NOW, limit=1_000_000))
        halves = [{each.subject_id for each in events if each.kind == kind} for kind in "ab"]
        assert halves[0] == halves[1]
        assert len(acknowledged) >= after
        assert halves[0].issuperset(acknowledged)
        assert await store.read(audit.verify) is None
        entries = await store.read(lambda unit: audit.entries(unit, limit=1_000_000))
        assert {entry.event.target for entry in entries} == halves[0]
