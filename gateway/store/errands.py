"""Threads that do what would block the loop, and the moments in which the loop lets them run.

Never here: what the errands are about. A thread wakes its asker and touches nothing else of the loop.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

import trio

# While others work in threads the loop stands still for this long, now and then: see `Turns`.
MOMENT: Final = 0.0001  # seconds
FIRST: Final = 0.0002  # seconds until the first such moment


class Turns(trio.abc.Instrument):
    """Gives the interpreter to threads that work for the loop, when the loop is too busy to do so by itself.

    A thread that comes back from the disk needs the interpreter's lock. The loop drops it at every system call and has
    it again a microsecond later, long before the thread is awake; and each time the thread begins its 5 ms of patience
    anew, after which the interpreter would hand it over. Measured beside a loop that is never idle: 2 commits
    a second. So, while something is under way, the loop really sleeps for a moment, at growing distances: at the end of
    a round. A loop that is idle has no rounds, and is not woken for this.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._under_way = 0
        self._pause = FIRST
        self._next = 0.0  # the moment's time, of the monotonic clock

    def begin(self) -> None:
        """A thread works for the loop from now on."""
        self._under_way += 1
        if self._under_way == 1:
            self._pause = FIRST
            self._next = time.monotonic() + FIRST

    def end(self) -> None:
        """It has come back."""
        self._under_way -= 1

    async def run(self) -> None:
        """Give way, until cancelled."""
        trio.lowlevel.add_instrument(self)
        try:
            await trio.sleep_forever()
        finally:
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002, an instrument's shape
        """The round is at its end."""
        if self._under_way and time.monotonic() >= self._next:
            time.sleep(MOMENT)
            self._pause = min(self._pause * 2, self._longest)
            self._next = time.monotonic() + self._pause


class Errands:
    """One thread beside the loop that does blocking calls, one at a time. Its owner is whoever closes it.

    A hop of `trio.to_thread` costs 75 microseconds; a thread that waits for the next errand costs a third of it.
    """

    def __init__(self, name: str, turns: Turns) -> None:
        self._turns = turns
        self._waiting: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    async def do(self, call: Callable[[], None]) -> None:
        """Run `call` on the thread and wait for it, whatever cancels: what is being made durable cannot be called back.

        Raises what `call` raises.
        """
        errand = _Errand(call, trio.lowlevel.current_task())
        self._turns.begin()
        self._waiting.put(errand)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        self._turns.end()
        if errand.error is not None:
            raise errand.error

    def close(self) -> None:
        """End the thread. Nothing may be under way."""
        self._waiting.put(None)
        self._thread.join()

    def _live(self) -> None:
        while (errand := self._waiting.get()) is not None:
            try:
                errand.call()
            except BaseException as error:  # noqa: BLE001, whatever it is belongs to the one who waits
                errand.error = error
            try:
                self._token.run_sync_soon(trio.lowlevel.reschedule, errand.task)
            except trio.RunFinishedError:
                return


class _Errand:
    __slots__ = ("call", "error", "task")

    def __init__(self, call: Callable[[], None], task: trio.lowlevel.Task) -> None:
        self.call = call
        self.task = task
        self.error: BaseException | None = None
