"""Reads whose cost grows with the store, on threads beside the loop: few at once, each ended when it takes too long.

Never here: an engine's own calls, a change, a read by key (`Store.read` answers those sooner).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Generic, NoReturn, Protocol, TypeVar

import trio

from gateway.domain.audit import AuditEvent
from gateway.store.errands import Turns
from gateway.store.unit import Row, StoreBusy, SurveyTooLong, Unit, Value

T = TypeVar("T")

# Asked for and not answered, in one process: whoever comes later hears `busy` instead of a deadline that passes unseen.
MOST_ASKED: Final = 16
# A survey needs the interpreter once a statement and once a row of its page: the loop gives way for a two-hundredth of
# its time, which is its own and no commit's.
LONGEST_TURN: Final = 0.02  # seconds


class Sight(Protocol):
    """A connection of its own, open for one survey. Everything but `stop` is called on the survey's thread."""

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` on one snapshot. Raises as `Store.survey` does, and anything once `stop` was called."""
        ...

    def require_asker(self) -> None:
        """Raises SurveyTooLong once `stop` was called."""
        ...

    def stop(self) -> None:
        """End what is being read, soon, and refuse to read on. From any thread, and without a wait."""
        ...

    def close(self) -> None:
        """Give the connection up; nothing is raised."""
        ...


class Watched:
    """The unit of a survey: it reads, and before each statement it looks whether anybody still waits."""

    __slots__ = ("_require_asker", "_unit")

    def __init__(self, unit: Unit, sight: Sight) -> None:
        self._unit = unit
        self._require_asker = sight.require_asker

    def one(self, query: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        self._require_asker()
        return self._unit.one(query, **parameters)

    def all(self, query: str, **parameters: Value) -> list[Row]:
        """All rows."""
        self._require_asker()
        return self._unit.all(query, **parameters)

    def run(self, query: str, **parameters: Value) -> int:  # noqa: ARG002, the shape of every unit
        """Nothing is changed here."""
        _reads_only()

    def many(self, query: str, rows: Iterable[Sequence[Value]]) -> None:  # noqa: ARG002, the shape of every unit
        """Nothing is changed here."""
        _reads_only()

    def audit(self, event: AuditEvent) -> None:  # noqa: ARG002, the shape of every unit
        """Nothing is changed here."""
        _reads_only()


def _reads_only() -> NoReturn:
    raise TypeError("a survey changes nothing")


class Surveys:
    """The surveys of one store: `opened` makes a connection for at most so many seconds, `at_once` run side by side."""

    def __init__(self, opened: Callable[[float], Sight], *, at_once: int) -> None:
        self.turns = Turns(LONGEST_TURN)
        self._opened = opened
        self._limiter = trio.CapacityLimiter(at_once)
        self._asked = 0

    async def ask(self, work: Callable[[Unit], T], seconds: float) -> T:
        """Run `work` when it is its turn, which it waits for as long as it may then take. Raises as `Store.survey`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._asked >= MOST_ASKED:
            raise StoreBusy(f"{self._asked} surveys are waiting")
        survey = _Survey(self._opened, work, seconds)
        begun = partial(trio.lowlevel.current_trio_token().run_sync_soon, survey.begin)
        self._asked += 1
        self.turns.begin()
        try:
            with survey.patience:
                # The thread keeps its place until it has really ended, so that nobody has more of them by going away.
                return await trio.to_thread.run_sync(
                    survey.carry_out, begun, abandon_on_cancel=True, limiter=self._limiter
                )
        finally:
            survey.stop()
            self.turns.end()
            self._asked -= 1
        if survey.patient:
            raise StoreBusy("the surveys before this one took too long")
        raise SurveyTooLong(seconds)


class _Survey(Generic[T]):
    """One survey, between the task that waits for it and the thread that makes it."""

    def __init__(self, opened: Callable[[float], Sight], work: Callable[[Unit], T], seconds: float) -> None:
        self._opened = opened
        self._work = work
        self._seconds = seconds
        self._guard = threading.Lock()  # held for moments only: the loop takes it too
        self._sight: Sight | None = None
        self._stopped = False
        self.patience = trio.CancelScope(deadline=trio.current_time() + seconds)
        self.patient = True  # until its turn has come

    def begin(self) -> None:
        """On the loop: its turn has come, and its time begins."""
        self.patient = False
        self.patience.deadline = trio.current_time() + self._seconds

    def stop(self) -> None:
        """On the loop: nobody waits for it any more, or it has ended."""
        self.patience.deadline = math.inf
        with self._guard:
            self._stopped = True
            if self._sight is not None:
                self._sight.stop()

    def carry_out(self, begun: Callable[[], None]) -> T:
        """On the thread."""
        begun()
        sight = self._opened(self._seconds)
        try:
            with self._guard:
                self._sight = sight
                if self._stopped:
                    raise SurveyTooLong(self._seconds)
            return sight.read(self._work)
        finally:
            with self._guard:
                self._sight = None
            sight.close()
