"""The crew at awkward moments: workers are small programs here that come up, or not, and end as each test wants."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from gateway.serve.settings import Settings, load
from gateway.serve.workers import crew as crews
from gateway.serve.workers import slots
from gateway.serve.workers.crew import Crew, Ground
from gateway.serve.workers.process import Started

# Its arguments: the file that it waits for before it is ready, and the one that it waits for before it ends.
WORKER = """
import os, signal, socket, sys, time
ready, end = sys.argv[1:]
channel = socket.socket(fileno=0)
while b"\\n" not in channel.recv(1 << 20): pass
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
while not os.path.exists(ready): time.sleep(0.01)
channel.send(b'{"type":"Ready","greeting":"ready"}\\n')
while not (told and os.path.exists(end)):
    channel.send(b'{"type":"Report","figures":[],"validations":[]}\\n')
    time.sleep(0.02)
"""


@dataclass
class Staff:
    """Starts workers. `started` in their order; the files in `folder` decide when the next ones are ready and end."""

    folder: Path
    ready: str = "now"
    end: str = "now"
    fails: bool = False
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, passed: Collection[int]) -> Started:
        if self.fails:
            raise BlockingIOError("Resource temporarily unavailable")
        ours, theirs = socket.socketpair()
        files = str(self.folder / self.ready), str(self.folder / self.end)
        with theirs:
            process = subprocess.Popen([sys.executable, "-S", "-E", "-c", WORKER, *files], stdin=theirs.fileno())
        ours.setblocking(False)
        self.started.append(process)
        return Started(process, ours)

    def may(self, name: str) -> None:
        (self.folder / name).touch()

    @property
    def alive(self) -> list[int]:
        return [each.pid for each in self.started if each.poll() is None]


@dataclass
class Scene:
    crew: Crew
    staff: Staff
    settings: Settings


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Scene]]:
    made: list[Scene] = []
    memory = slots.make()

    def make(count: int) -> Scene:
        staff = Staff(tmp_path)
        staff.may("now")
        settings = load({"data": str(tmp_path)}, {}, folder=tmp_path)
        ground = Ground([], [], memory, [], (b"k" * 16, 0.0), b"k" * 32)
        made.append(Scene(Crew(ground, settings, count, never, start=staff.start), staff, settings))
        return made[-1]

    yield make
    for one in made:
        for each in one.staff.started:
            each.kill()
            each.wait()
    os.close(memory)


async def never(_: str) -> bool:
    return False


@contextlib.asynccontextmanager
async def serving(scene: Scene) -> AsyncIterator[list[str]]:
    """The crew at work, for the length of a block; it has ended at its end."""
    greeted: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.crew.serve, None, None, greeted.append)
        yield greeted
        scene.crew.end()


async def come(what: Callable[[], bool]) -> None:
    with trio.fail_after(90):
        while not what():
            await trio.sleep(0.01)


def ready(scene: Scene) -> int:
    return sum(bool(each.greeting) for each in scene.crew._alive.values())


async def test_no_worker_is_started_while_the_others_drain(scene) -> None:
    """SIGTERM: one that has ended is not started again, though another has a request under way yet."""
    one = scene(1)
    one.staff.end = "later"
    async with serving(one) as greeted:
        await come(lambda: bool(greeted))  # and it has its place: before that, both would be somebody else's
        one.staff.end = "now"
        one.crew._count = 2
        one.crew._grow(None)
        await come(lambda: ready(one) == 2)
        one.crew.end()
        await come(lambda: len(one.staff.alive) == 1)
        await trio.sleep(0.5)
        assert len(one.staff.started) == 2
        one.staff.may("later")
    assert one.staff.alive == []


async def test_a_hang_up_while_the_first_worker_starts_waits_for_it(scene) -> None:
    one = scene(1)
    one.staff.ready = "ready"
    async with serving(one) as greeted, trio.open_nursery() as nursery:
        await come(lambda: len(one.staff.started) == 1)
        nursery.start_soon(one.crew.exchange, one.settings, 2)
        await trio.sleep(0.2)
        assert len(one.staff.started) == 1, "it puts the store in order, alone"
        one.staff.may("ready")
        await come(lambda: ready(one) == 2 and len(one.staff.started) == 3)
        assert greeted == ["ready"]
        await come(lambda: one.staff.started[0].poll() == 0)
    assert one.staff.alive == []


async def test_two_hang_ups_in_quick_succession_leave_workers_with_the_last_settings(scene) -> None:
    one = scene(2)
    async with serving(one), trio.open_nursery() as nursery:
        await come(lambda: ready(one) == 2)
        for generation, count in ((1, 3), (2, 1)):
            nursery.start_soon(one.crew.exchange, one.settings, count)
            await come(lambda wished=generation: one.crew._generation == wished)
        await come(lambda: len(one.staff.alive) == 1 and ready(one) == 1)
        nursery.start_soon(one.crew.exchange, one.settings, 3)
        await come(lambda: ready(one) == 3 and one.crew._rolling.locked() is False)
        assert {each.generation for each in one.crew._alive.values()} == {3}
        assert len(one.staff.alive) == 3
    assert one.staff.alive == []


async def test_a_worker_that_was_coming_up_at_a_hang_up_gets_the_new_settings_too(scene) -> None:
    one = scene(1)
    async with serving(one):
        await come(lambda: ready(one) == 1)
        one.staff.ready = "ready"
        os.kill(one.staff.started[0].pid, signal.SIGKILL)
        await come(lambda: len(one.staff.started) == 2)  # with the settings of before
        await one.crew.exchange(one.settings, 1)
        one.staff.may("ready")
        await come(lambda: len(one.staff.started) == 3 and len(one.staff.alive) == 1 and ready(one) == 1)
        [left] = one.crew._alive.values()
        assert left.generation == 1


async def test_settings_with_which_nobody_comes_up_are_not_those_of_a_worker_that_is_started_again(scene) -> None:
    one = scene(1)
    async with serving(one):
        await come(lambda: ready(one) == 1)
        one.staff.fails = True
        other = load({"data": str(one.staff.folder), "log.level": "debug"}, {}, folder=one.staff.folder)
        await one.crew.exchange(other, 2)
        assert one.crew.settings == one.settings
        one.staff.fails = False
        os.kill(one.staff.started[0].pid, signal.SIGKILL)
        await come(lambda: ready(one) == 1 and len(one.staff.started) == 2)
        await trio.sleep(0.3)
        assert len(one.staff.alive) == 1


async def test_what_the_machine_refuses_is_tried_again(scene) -> None:
    """No process is to be had: the gateway goes on with what it has."""
    one = scene(1)
    async with serving(one):
        await come(lambda: ready(one) == 1)
        one.staff.fails = True
        os.kill(one.staff.started[0].pid, signal.SIGKILL)
        await trio.sleep(0.5)
        one.staff.fails = False
        await come(lambda: ready(one) == 1 and len(one.staff.started) == 2)


async def test_the_end_in_the_middle_of_an_exchange_ends_old_and_new(scene, caplog: pytest.LogCaptureFixture) -> None:
    one = scene(1)
    async with serving(one), trio.open_nursery() as nursery:
        await come(lambda: ready(one) == 1)
        one.staff.ready = "never"
        nursery.start_soon(one.crew.exchange, one.settings, 1)
        await come(lambda: len(one.staff.started) == 2)
        one.staff.may("never")
        one.crew.end()
    assert one.staff.alive == []
    assert "does not come up" not in caplog.text


async def test_a_worker_that_hangs_is_killed_and_started_again_and_one_that_speaks_is_not(
    scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold the store's write lock, for which all others wait."""
    monkeypatch.setattr(crews, "LOOK_SECONDS", 0.5)
    one = scene(2)
    async with serving(one):
        await come(lambda: ready(one) == 2)
        os.kill(one.staff.started[0].pid, signal.SIGSTOP)
        await come(lambda: len(one.staff.started) == 3 and ready(one) == 2)
        assert one.staff.started[0].wait() == -signal.SIGKILL
        assert one.staff.started[1].poll() is None


async def test_a_stopped_worker_is_killed_when_its_time_to_drain_is_over(
    scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scene(2)
    one.crew.settings = load({"data": str(one.staff.folder), "limits.drain-seconds": "4"}, {}, folder=one.staff.folder)
    monkeypatch.setattr(crews, "END_SECONDS", 0.2)
    async with serving(one):
        await come(lambda: ready(one) == 2)
        os.kill(one.staff.started[0].pid, signal.SIGSTOP)
    assert [each.wait() for each in one.staff.started] == [-signal.SIGKILL, 0]
