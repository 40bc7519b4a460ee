"""A worker's side of the pair: what it tells its parent, and what it is told. The pair's end is the worker's end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import msgspec
import trio

from gateway.fronts.exposition import Family
from gateway.serve.workers import orders, sums
from gateway.serve.workers.channel import Channel
from gateway.serve.workers.orders import Ask, Orders, Ready, Refused, Renew, Report, Say, Told

logger = logging.getLogger("muster.workers")

REPORT_SECONDS: Final = 1.0  # what a worker counted in its last second is lost if it is killed
PATIENCE: Final = 2.0  # seconds for an answer of the parent's, which is never busy
NOBODY: Final = Told([], [])


class Link:
    """The pair, from the worker's side. `measure` and `validations` give this worker's of the moment."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asking = trio.Lock()
        self._answered = trio.Event()
        self._told = NOBODY
        self.measure: Callable[[], Sequence[Family]] = tuple
        self.validations: Callable[[], list[str]] = list

    async def hear(self, gone: Callable[[], None]) -> None:
        """Hear the parent until it is gone, and say so to `gone`."""
        async for line in self._channel.lines():
            try:
                message = orders.to_worker(line)
            except msgspec.DecodeError:
                logger.exception("the parent said what nobody understands")
                continue
            match message:
                case Told():
                    self._told = message
                    self._answered.set()
                case Say():
                    await self.report()
                case Orders():
                    logger.error("orders came a second time")
                case _:
                    assert_never(message)
        gone()

    async def keep_reporting(self) -> None:
        """Report every second, for ever; ends by cancellation only."""
        while True:
            await trio.sleep(REPORT_SECONDS)
            await self.report()

    async def report(self) -> None:
        """Tell the figures of this moment."""
        figures = sums.figures(self.measure())
        await self._channel.send(orders.line(Report(figures, self.validations())))

    async def ready(self, greeting: str) -> None:
        """This worker serves from now on."""
        await self._channel.send(orders.line(Ready(greeting)))

    async def refuse(self, sentence: str) -> None:
        """This worker cannot start."""
        await self._channel.send(orders.line(Refused(sentence)))

    async def renew(self, issuer: str) -> None:
        """The listener's certificate is due."""
        await self._channel.send(orders.line(Renew(issuer)))

    async def measured(self) -> list[Family]:
        """The figures of the whole gateway.

        Ours go first: what was told of this worker here must not be less when another worker is asked a moment later.
        """
        own = sums.figures(self.measure())
        await self._channel.send(orders.line(Report(own, self.validations())))
        told = await self.others()
        return sums.families(sums.added([own, told.figures]))

    async def others(self) -> Told:
        """What all the others say; nothing, where the parent is silent."""
        async with self._asking:
            self._answered = trio.Event()
            if not await self._channel.send(orders.line(Ask())):
                return NOBODY
            with trio.move_on_after(PATIENCE):
                await self._answered.wait()
                return self._told
        return NOBODY

    async def validating(self) -> list[str]:
        """The authorizations that the others are validating."""
        return (await self.others()).validations
