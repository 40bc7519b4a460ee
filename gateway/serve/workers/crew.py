"""The parent's care for its workers: started, started again, replaced one after the other, drained, ended.

No request is read here, no store is opened. A worker that dies costs its own connections and nothing else; one that
does not come up leaves the one before it where it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec
import trio

from gateway.serve.ceremony import Manifest
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.workers import orders, slots, sums
from gateway.serve.workers.channel import Channel
from gateway.serve.workers.orders import Ask, Figure, Orders, Ready, Refused, Renew, Report, Sample, Say, Told
from gateway.serve.workers.process import REFUSED, Started, how, start

logger = logging.getLogger("muster.workers")

READY_SECONDS: Final = 60.0  # a second on an idle machine; one that boots has other things to do
# After its connections have had their time a worker closes its store and is gone; longer, and it hangs.
END_SECONDS: Final = 10.0
FIRST_PAUSE: Final = 0.1  # seconds
LONGEST_PAUSE: Final = 10.0
# A worker that stood so long was healthy: the next pause is a short one again.
HEALTHY: Final = 60.0
# Whoever asks for figures is answered within it, and gets what there is.
MOMENT: Final = 0.25
_POLL: Final = 0.05
# Reports come every second. Looks without one are counted, not seconds: a machine that was paused has missed one look.
LOOK_SECONDS: Final = 5.0
SILENT_LOOKS: Final = 6


@dataclass(frozen=True, slots=True)
class Ground:
    """What all workers of a house stand on, for as long as it stands: descriptors, the signer's sockets, keys."""

    https: list[int]
    http: list[int]
    memory: int
    signer: list[str]
    nonces: tuple[bytes, float]
    rates: bytes

    @property
    def descriptors(self) -> list[int]:
        """What a worker inherits."""
        return [*self.https, *self.http, self.memory]


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the parent sees it. `told`: it has been told to end. `generation` is that of its settings."""

    slot: int
    generation: int
    started: Started
    channel: Channel
    began: float
    ready: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    greeting: str = ""
    sentence: str = ""
    told: bool = False
    reported: trio.Event = field(default_factory=trio.Event)
    heard: int = 0
    figures: list[Figure] = field(default_factory=list)
    validations: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """How its process ended."""
        code = self.started.process.returncode
        return "it goes on" if code is None else how(code)


class Crew:
    """All workers. `renew` makes the listener's next certificate, signed by the key that it is told.

    `start` starts a process that inherits descriptors and waits for orders.
    """

    def __init__(
        self,
        ground: Ground,
        settings: Settings,
        count: int,
        renew: Callable[[str], Awaitable[bool]],
        *,
        start: Callable[[Collection[int]], Started] = start,
    ) -> None:
        self.settings = settings
        self._start = start
        self._ground = ground
        self._count = count
        self._renew = renew
        self._renewing = trio.Lock()
        self._places: dict[int, Worker | None] = {}  # of each place that somebody keeps
        self._alive: dict[int, Worker] = {}  # by slot
        self._gone: list[Figure] = []
        self._ends = 0
        self._generation = 0
        self._rolling = trio.Lock()
        self._ending = trio.Event()
        self._starting = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    async def serve(self, early: Started | None, made: Manifest | None, announce: Callable[[str], None]) -> None:
        """Serve until `end`. `early` is a process that waits for orders already; `announce` gets the greeting.

        Raises `CannotStart`, with the first worker's sentence, where not even that one comes up.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                first = None
                # An exchange that is asked for meanwhile finds the first one in its place.
                async with self._rolling:
                    with self._starting:
                        first = await self._begin(early, first=True, made=made)
                    if first is not None:
                        announce(first.greeting)
                        self._grow(first)
                if first is not None:
                    await self._ending.wait()
                async with trio.open_nursery() as drains:
                    for worker in tuple(self._alive.values()):
                        drains.start_soon(self._drain, worker)
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            for worker in self._alive.values():
                worker.started.kill()

    def end(self) -> None:
        """Let all workers drain, and `serve` return."""
        self._ending.set()
        self._starting.cancel()

    async def exchange(self, settings: Settings, count: int) -> None:
        """Replace every worker by one with these settings, one after the other: at no time do fewer serve.

        Where not even one comes up with them, those before hold on, for workers that are started again as well.
        """
        before = self.settings, self._count
        self.settings, self._count = settings, count
        self._generation += 1
        generation = self._generation
        async with self._rolling:
            if self._ending.is_set():
                return
            self._grow(None)
            exchanged = 0
            for place, old in tuple(self._places.items()):
                if self._ending.is_set():
                    return
                if old is None:
                    continue  # it is being started again, and whoever does that sees to its settings
                if place >= self._count:
                    await self._drain(old)
                elif old.generation != self._generation and not await self._replace(place, old):
                    if not exchanged and generation == self._generation:
                        self.settings, self._count = before
                        self._generation += 1
                    return
                exchanged += 1
        logger.info("the workers have the settings of now", extra={"workers": self._count})

    def _grow(self, first: Worker | None) -> None:
        assert self._nursery is not None
        for place in range(self._count):
            if place not in self._places:
                self._places[place] = first
                self._nursery.start_soon(self._keep, place)
                first = None

    async def _keep(self, place: int) -> None:
        """See to it that somebody works at this place, for as long as it is wanted."""
        pause = FIRST_PAUSE
        while place < self._count and not self._ending.is_set():
            worker = self._places[place]
            if worker is None:
                worker = await self._settle(place)
            if worker is not None:
                await worker.ended.wait()
                if self._places[place] is not worker:
                    continue  # another took over while this one drained
                self._places[place] = None
                if worker.told:
                    continue
                self._ends += 1
                logger.error("a worker ended and is started again", extra={"worker": worker.slot, "by": worker.status})
                if trio.current_time() - worker.began > HEALTHY:
                    pause = FIRST_PAUSE
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        del self._places[place]

    async def _settle(self, place: int) -> Worker | None:
        """Somebody new at a place that is nobody's, with the settings of now; None where nobody comes up."""
        worker = await self._begin(None)
        if worker is None:
            return None
        if place >= self._count or self._places[place] is not None:
            # Meanwhile the place was given up, or an exchange has put somebody there.
            await self._drain(worker)
            return self._places[place]
        self._places[place] = worker
        if worker.generation != self._generation:
            async with self._rolling:
                # What an exchange passed over, since nobody was here yet.
                if self._places[place] is worker and worker.generation != self._generation:
                    await self._replace(place, worker)
        return self._places[place]

    async def _replace(self, place: int, old: Worker) -> bool:
        successor = await self._begin(None)
        if successor is None:
            if not self._ending.is_set():
                logger.error("a worker with the new settings does not come up; the ones before it go on")
            return False
        if self._places.get(place) is old or (place in self._places and self._places[place] is None):
            self._places[place] = successor
            await self._drain(old)
        else:
            await self._drain(successor)  # the old one died meanwhile, and somebody has its place already
        return True

    async def _begin(
        self, early: Started | None, *, first: bool = False, made: Manifest | None = None
    ) -> Worker | None:
        """A worker that is ready; None where it did not come up. Raises `CannotStart` for the first one."""
        assert self._nursery is not None
        slot = await self._free_slot()
        if self._ending.is_set():
            return None  # those that stand are draining; nobody would tell this one to
        ground = self._ground
        try:
            started = early or self._start(ground.descriptors)
        except OSError as trouble:  # no memory or no process is to be had just now
            logger.error("no worker can be started", extra={"cause": str(trouble)})  # noqa: TRY400 - a sentence
            return None
        worker = Worker(slot, self._generation, started, Channel(started.channel), trio.current_time())
        self._alive[slot] = worker
        self._nursery.start_soon(self._attend, worker)
        packed = orders.packed(self.settings)
        await worker.channel.send(
            orders.line(
                Orders(
                    settings=packed,
                    https=ground.https,
                    http=ground.http,
                    memory=ground.memory,
                    slot=slot,
                    workers=self._count,
                    signer=ground.signer,
                    parent=os.getpid(),
                    nonces=ground.nonces,
                    rates=ground.rates,
                    first=first,
                    made=made,
                )
            )
        )
        with trio.move_on_after(READY_SECONDS):
            await worker.ready.wait()
        if worker.greeting:
            return worker
        if not worker.ended.is_set():
            worker.sentence = f"it was not ready within {READY_SECONDS:g} seconds"
            worker.started.process.kill()
            await worker.ended.wait()
        why = worker.sentence or f"a worker ended before it was ready ({worker.status})"
        if self._ending.is_set():
            return None
        if first:
            raise CannotStart(why)
        logger.error("a worker does not come up", extra={"worker": slot, "cause": why})
        return None

    async def _free_slot(self) -> int:
        while True:
            for slot in range(slots.SLOTS):
                if slot not in self._alive:
                    return slot
            await trio.sleep(_POLL)

    async def _attend(self, worker: Worker) -> None:
        """Hear a worker until it is gone, whatever it does."""
        watching = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, worker)
            nursery.start_soon(self._watch, worker, watching)
            await _gone(worker.started.process.pid)
            worker.started.process.wait()
            watching.cancel()
            # What it said last lies in the pair still, and then its end.
            nursery.cancel_scope.deadline = trio.current_time() + 1
        await worker.channel.close()
        if worker.started.process.returncode == REFUSED and not worker.sentence:
            worker.sentence = "a worker could not start; what it wrote says why"
        self._gone = sums.added([self._gone, sums.lasting(worker.figures)])
        slots.vacate(self._ground.memory, worker.slot)
        del self._alive[worker.slot]
        worker.ended.set()
        worker.ready.set()

    async def _watch(self, worker: Worker, watching: trio.CancelScope) -> None:
        with watching:
            silent = 0
            while silent < SILENT_LOOKS:
                heard = worker.heard
                await trio.sleep(LOOK_SECONDS)
                silent = silent + 1 if worker.greeting and not worker.told and worker.heard == heard else 0
            logger.error("a worker hangs and is killed", extra={"worker": worker.slot})
            worker.started.process.kill()

    async def _hear(self, worker: Worker) -> None:
        assert self._nursery is not None
        async for line in worker.channel.lines():
            try:
                message = orders.to_parent(line)
            except msgspec.DecodeError:
                logger.exception("a worker said what nobody understands", extra={"worker": worker.slot})
                continue
            match message:
                case Ready():
                    worker.greeting = message.greeting
                    worker.ready.set()
                case Refused():
                    worker.sentence = message.sentence
                case Report():
                    worker.figures, worker.validations = message.figures, message.validations
                    worker.reported.set()
                    worker.heard += 1
                case Ask():
                    self._nursery.start_soon(self._tell, worker)
                case Renew():
                    self._nursery.start_soon(self._renew_once, message.issuer)
                case _:
                    assert_never(message)

    async def _renew_once(self, issuer: str) -> None:
        if self._renewing.locked():
            return
        async with self._renewing:
            await self._renew(issuer)  # each worker sees the new files for itself

    async def _tell(self, asker: Worker) -> None:
        """What the others say now; of one that is busy, what it said within the last second."""
        others = [each for each in self._alive.values() if each is not asker and each.greeting]
        for each in others:
            each.reported = trio.Event()
            await each.channel.send(orders.line(Say()))
        with trio.move_on_after(MOMENT):
            for each in others:
                await each.reported.wait()
        await asker.channel.send(orders.line(self._others(asker)))

    def _others(self, asker: Worker) -> Told:
        others = [each for each in self._alive.values() if each is not asker]
        ready = sum(1 for each in self._alive.values() if each.greeting and not each.told)
        ours = [
            Figure("muster_gateway_workers", "gauge", "Workers that serve.", [Sample(ready)]),
            Figure(
                "muster_gateway_worker_ends_total",
                "counter",
                "Workers that ended unasked and were started again.",
                [Sample(self._ends)],
            ),
        ]
        told = sums.added([ours, *(each.figures for each in others), self._gone])
        return Told(told, [one for each in others for one in each.validations])

    async def _drain(self, worker: Worker) -> None:
        worker.told = True
        worker.started.process.terminate()
        with trio.move_on_after(self.settings.drain_seconds + END_SECONDS):
            await worker.ended.wait()
            return
        logger.warning("a worker did not end in time and was killed", extra={"worker": worker.slot})
        worker.started.process.kill()
        await worker.ended.wait()


async def _gone(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        await trio.lowlevel.wait_readable(handle)
    finally:
        os.close(handle)
