"""Several processes write to one store: nothing is lost, the audit chain never forks, and everybody has a turn."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from gateway.store import audit
from gateway.store.duty import open_duty
from gateway.store.hands import Hands
from gateway.store.unit import StoreUnavailable, open_store
from tests.doubles.gateway import ROOT, environment

EACH = 150
WRITER = """
import json, sys
from datetime import UTC, datetime
from functools import partial
import trio
from gateway.domain.audit import AuditEvent
from gateway.store.unit import open_store

async def main(url, name, count):
    async with open_store(url) as store:
        async def writer(part):
            for number in range(count // 5):
                event = AuditEvent(datetime.now(UTC), name, "test.write", f"{name}-{part}-{number}", "success")
                await store.write(lambda unit, event=event: unit.audit(event))
        async with trio.open_nursery() as nursery:
            for part in range(5):
                nursery.start_soon(writer, part)

trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


async def test_what_several_processes_write_is_all_there_in_one_chain(url: str):
    async with open_store(url):
        pass
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, f"w{each}", str(EACH)], env=environment(), cwd=ROOT)
        for each in range(3)
    ]
    statuses = [await trio.to_thread.run_sync(each.wait) for each in writers]
    assert statuses == [0, 0, 0]
    async with open_store(url) as store:
        assert await store.read(audit.verify) is None
        entries = await store.read(lambda unit: audit.entries(unit, limit=10_000))
        assert len({entry.event.target for entry in entries}) == len(entries) == 3 * EACH


TURN = """
import sys, trio
from pathlib import Path
from gateway.store.duty import open_duty

async def main(url, file):
    async with open_duty(url, Path(file)) as duty:
        print("alone" if duty.alone else "others", flush=True)
        await duty.take()
        print("mine", flush=True)
        await trio.sleep_forever()

trio.run(main, sys.argv[1], sys.argv[2])
"""


async def test_one_process_at_a_time_has_the_turn_and_another_takes_it_over_when_it_is_killed(url: str, tmp_path: Path):
    async with open_store(url):
        pass
    file = tmp_path / "duty"
    holder = subprocess.Popen(
        [sys.executable, "-c", TURN, url, str(file)], env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "alone\n"
    assert holder.stdout.readline() == "mine\n"
    async with open_duty(url, file) as duty:
        if url.startswith("postgresql"):
            assert not duty.alone, "another machine's gateway is there"
        with trio.move_on_after(2.5) as waiting:
            await duty.take()
        assert waiting.cancelled_caught
        holder.kill()
        await trio.to_thread.run_sync(holder.wait)
        holder.stdout.close()
        with trio.fail_after(30):
            await duty.take()
        with trio.move_on_after(1) as held:
            await duty.lost()
        assert held.cancelled_caught


async def test_who_lives_is_known_and_who_was_killed_too(url: str, tmp_path: Path):
    async with open_store(url):
        pass
    file = tmp_path / "duty"
    living = "print(duty.holder, flush=True); await trio.sleep_forever()"
    other = subprocess.Popen(
        [sys.executable, "-c", TURN.replace('print("alone"', f'{living}; print("alone"'), url, str(file)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    theirs = int(other.stdout.readline())
    async with open_duty(url, file) as duty:
        assert await duty.gone({duty.holder, theirs}) == set()
        other.kill()
        await trio.to_thread.run_sync(other.wait)
        other.stdout.close()
        with trio.fail_after(30):
            while await duty.gone({theirs}) != {theirs}:
                await trio.sleep(0.05)


@pytest.mark.parametrize("name", ["duty", "store.sqlite-hands"])
async def test_a_file_that_cannot_be_made_is_a_sentence(tmp_path: Path, name: str):
    """As on a full disk; a folder stands in its place here."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    async with open_store(url):
        pass
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(StoreUnavailable, match=name):
        async with open_store(url), open_duty(url, tmp_path / "duty"):
            pass


def test_a_raised_hand_is_seen_by_others_alone_and_goes_down_with_its_process(tmp_path: Path):
    file = tmp_path / "hands"
    ours = Hands(file)
    ours.raise_own()
    assert not ours.others()
    waiter = "import sys, time; from pathlib import Path; from gateway.store.hands import Hands; "
    waiter += "one = Hands(Path(sys.argv[1])); print(one.others(), flush=True); one.raise_own(); "
    waiter += "print('up', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", waiter, str(file)],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "True\n"
    assert other.stdout.readline() == "up\n"
    assert ours.others()
    other.kill()
    other.communicate()
    assert not ours.others()
    ours.lower_own()
    ours.close()
