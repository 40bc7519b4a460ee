"""The loop of one driver process: many clients on one epoll, in a closed or an open loop.

A wait is measured from the time at which the work was due, not from when this loop got round to it: else a server that
stands still for a second would hide the second (coordinated omission). May not happen here: a protocol's own words.
"""

from __future__ import annotations

import heapq
import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from bench.load.arrivals import Arrivals, Closed, Open
from bench.load.conversation import NOTHING, Answer, Ask, Conversation, Failed, Origin, Pause, Told
from bench.load.line import Address, Line, Lost
from bench.load.tally import Tally

PATIENCE: Final = 10.0  # seconds that a client waits for an answer, and an arrival for a free client
_SWEEP: Final = 0.25  # seconds between two looks for clients that have waited too long
_AFTER_A_FAILURE: Final = 0.1  # seconds: a closed loop must not spin on a server that is down
_MOST_HEEDED: Final = 1.0  # seconds of a Retry-After that a closed loop keeps, so that it goes on within its run
_AT_ONCE: Final = 64  # introductions at the same time: new accounts and handshakes are dear


class Player(Protocol):
    """One client of a protocol, with whatever it keeps between enrollments."""

    def introduce(self) -> Conversation[None]:
        """What comes once, before anything counts."""

    def enroll(self) -> Conversation[None]:
        """One piece of the work that is measured."""


@dataclass(frozen=True, slots=True)
class Span:
    """When a run begins to count, and ends, on the monotonic clock; it starts at `start`."""

    start: float
    counts: float
    ends: float


class Client:
    """A player with its line; `due` is when its work was due, `since` when its last step began (0.0: it has none)."""

    __slots__ = ("again", "conversation", "due", "end", "line", "player", "since", "step", "watched")

    def __init__(self, player: Player, line: Line) -> None:
        self.player = player
        self.line = line
        self.conversation: Conversation[None] | None = None
        self.step: Ask | None = None
        self.due = 0.0
        self.since = 0.0
        self.again = False
        self.watched = (-1, 0)
        self.end: End = _nobody


End: TypeAlias = "Callable[[Client, Exception | None], None]"


def _nobody(_: Client, __: Exception | None) -> None:
    """The end of a conversation that never began."""


class Loop:
    """Clients on one epoll. `fresh`: each piece of work has a new connection, with a full handshake."""

    def __init__(self, players: Sequence[Player], origin: Origin, tls: ssl.SSLContext | None, *, fresh: bool) -> None:
        self._origin, self._address, self._tls = origin, Address(origin), tls
        self._clients: list[Client] = []
        self._fresh = fresh
        self._poll = select.epoll()
        self._by_number: dict[int, Client] = {}
        self._pauses: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._busy = 0
        self._swept = 0.0
        self._again = 0
        self._asked = 0
        self.take(players)

    def take(self, players: Sequence[Player]) -> None:
        """Take in more clients, between runs."""
        self._clients += [Client(player, Line(self._origin, self._address, self._tls)) for player in players]

    def close(self) -> None:
        """Close every connection."""
        for each in self._clients:
            self._hang_up(each)
        self._poll.close()

    def introduce(self) -> None:
        """Let every client do what comes once. Raises Failed with the first one's sentence."""
        waiting = deque(self._clients)

        def ended(client: Client, error: Exception | None) -> None:
            if isinstance(error, Told):
                self._later(max(0.1, error.after), lambda: self._begin(client, client.player.introduce(), ended))
            elif error is not None:
                raise Failed(f"a client could not introduce itself: {error}") from error

        while waiting or self._busy or self._pauses:
            while waiting and self._busy < _AT_ONCE:
                following = waiting.popleft()
                self._begin(following, following.player.introduce(), ended)
            if self._busy or self._pauses:
                self._turn(_SWEEP)

    def run(self, arrivals: Arrivals, span: Span, seed: int = 0) -> Tally:
        """Work until `span` ends, and let what is under way end too, within its patience."""
        tally = Tally()
        again, asked = self._again, self._asked
        while (now := time.perf_counter()) < span.start:
            time.sleep(min(0.1, span.start - now))
        cpu, began = time.process_time(), now
        match arrivals:
            case Closed():
                self._closed(tally, span)
            case Open():
                self._open(arrivals, tally, span, seed)
        tally.again, tally.asked = self._again - again, self._asked - asked
        tally.cpu = (time.process_time() - cpu) / (time.perf_counter() - began)
        return tally

    def _closed(self, tally: Tally, span: Span) -> None:
        def ended(client: Client, error: Exception | None) -> None:
            now = time.perf_counter()
            tally.all_done += error is None
            # What is answered after the span would make the span look quicker than it was; what never is was waited
            # for in the span, and a server that stands still would else leave nothing to be seen.
            if span.counts <= now < span.ends or (now >= span.ends and isinstance(error, Lost)):
                tally.arrived += 1
                _note(tally, error, now - client.due)
                tally.finished += error is None
            if now >= span.ends:
                return
            if error is None:
                begin(client)
            else:
                heed = min(_MOST_HEEDED, max(_AFTER_A_FAILURE, error.after if isinstance(error, Told) else 0.0))
                self._later(heed, lambda: begin(client))

        def begin(client: Client) -> None:
            client.due = time.perf_counter()
            if client.due < span.ends:
                self._begin(client, client.player.enroll(), ended)

        for each in self._clients:
            begin(each)
        while time.perf_counter() < span.ends or self._busy:
            self._turn(_SWEEP)

    def _open(self, arrivals: Open, tally: Tally, span: Span, seed: int) -> None:
        idle = deque(self._clients)
        waiting: deque[float] = deque()

        def ended(client: Client, error: Exception | None) -> None:
            now = time.perf_counter()
            tally.all_done += error is None
            if span.counts <= client.due < span.ends:
                _note(tally, error, now - client.due)
            tally.finished += error is None and span.counts <= now < span.ends
            idle.append(client)

        def take() -> None:
            while waiting and idle:
                client = idle.popleft()
                client.due = waiting.popleft()
                self._begin(client, client.player.enroll(), ended)

        times: Iterator[float] = (span.start + each for each in arrivals.due(seed))
        following = next(times)
        while True:
            now = time.perf_counter()
            while following <= now and following < span.ends:
                counted = following >= span.counts
                tally.arrived += counted
                tally.behind = max(tally.behind, now - following if counted else 0.0)
                waiting.append(following)
                following = next(times)
            while waiting and now - waiting[0] > PATIENCE:
                tally.late += span.counts <= waiting.popleft()
            take()
            if now >= span.ends and not waiting and not self._busy:
                return
            self._turn(following - now if following < span.ends else _SWEEP)

    def _begin(self, client: Client, conversation: Conversation[None], end: End) -> None:
        if self._fresh:
            self._hang_up(client)
        client.conversation, client.end, client.again = conversation, end, False
        self._busy += 1
        self._on(client, None)

    def _on(self, client: Client, answer: Answer | None) -> None:
        """Go on with the conversation: to its next request, its next pause, or its end."""
        assert client.conversation is not None
        try:
            step = next(client.conversation) if answer is None else client.conversation.send(answer)
            client.since = time.perf_counter()
            if isinstance(step, Pause):
                client.step = None
                self._later(step.seconds, lambda: self._on(client, NOTHING))
                return
            client.step, client.again = step, False
            self._asked += 1
            self._say(client, step)
        except StopIteration:
            self._ended(client, None)
        except Exception as error:  # noqa: BLE001, whatever goes wrong with one answer is counted, and the run goes on
            self._ended(client, error)

    def _say(self, client: Client, step: Ask) -> None:
        try:
            client.line.say(step)
        except Lost as error:
            self._once_more(client, error)
        self._watch(client)

    def _once_more(self, client: Client, error: Lost) -> None:
        """Say it again on a new connection, where a kept one broke before any answer. Raises Lost.

        A server may end an idle connection at any time, and every client of these protocols then connects again
        (RFC 9112, 9.3.1); a second time, or with an answer begun, the request is lost.
        """
        sure = client.line.kept and not client.line.begun and not client.again
        self._hang_up(client)
        if not sure or client.step is None:
            raise error
        client.again = True
        self._again += 1
        client.line.say(client.step)

    def _hear(self, client: Client) -> None:
        """Something moved on a client's connection."""
        if client.step is None:
            self._idle(client)
            return
        answer = None
        try:
            try:
                answer = client.line.go_on()
            except Lost as error:
                self._once_more(client, error)
        except (Lost, Failed) as error:
            self._ended(client, error)
            return
        if answer is not None:
            client.line.finish()
            if client.line.ending:
                self._hang_up(client)
        self._watch(client)
        if answer is not None:
            client.step = None
            self._on(client, answer)

    def _idle(self, client: Client) -> None:
        """A connection that waits for nothing: TLS said something of its own (a ticket), or the server ended it."""
        try:
            client.line.go_on()
        except (Lost, Failed):
            self._hang_up(client)

    def _ended(self, client: Client, error: Exception | None) -> None:
        if client.conversation is not None:
            client.conversation.close()
        # What is still to come on it would be taken for the next one's answer.
        if self._fresh or isinstance(error, (Lost, Failed)):
            self._hang_up(client)
        client.conversation, client.step, client.since = None, None, 0.0
        self._busy -= 1
        client.end(client, error)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._pauses, (time.perf_counter() + seconds, self._order, do))

    def _turn(self, most: float) -> None:
        """Wait until something moves, `most` seconds at the longest, and go on with it."""
        now = time.perf_counter()
        if self._pauses:
            most = min(most, self._pauses[0][0] - now)
        most = max(0.0, min(most, _SWEEP))
        # epoll counts in milliseconds, an arrival may be due in a tenth of one: `select` on the epoll itself can wait
        # for that, and needs no descriptor above 1023 as the epoll is made first.
        if most:
            select.select([self._poll], [], [], most)
        ready = self._poll.poll(0)
        now = time.perf_counter()
        if now - self._swept > _SWEEP:
            self._swept = now
            self._give_up({number for number, _ in ready}, now)
        for number, _ in ready:
            if (client := self._by_number.get(number)) is not None:
                self._hear(client)
        now = time.perf_counter()
        while self._pauses and self._pauses[0][0] <= now:
            heapq.heappop(self._pauses)[2]()

    def _give_up(self, ready: set[int], now: float) -> None:
        """End what has waited too long; whose answer is here was not read yet by this loop's own fault."""
        for each in self._clients:
            if each.step is not None and now - each.since > PATIENCE and each.line.number not in ready:
                self._hang_up(each)
                self._ended(each, Lost(f"no answer in {PATIENCE:.0f} s"))

    def _watch(self, client: Client) -> None:
        wanted = (client.line.number, client.line.wants)
        if wanted == client.watched:
            return
        number, events = wanted
        if number < 0:
            return
        if client.watched[0] == number and number in self._by_number:
            self._poll.modify(number, events)
        else:
            self._poll.register(number, events)
            self._by_number[number] = client
        client.watched = wanted

    def _hang_up(self, client: Client) -> None:
        number = client.watched[0]
        if self._by_number.pop(number, None) is not None:
            self._poll.unregister(number)
        client.watched = (-1, 0)
        client.line.close()


def _note(tally: Tally, error: Exception | None, wait: float) -> None:
    match error:
        case None:
            tally.waits.note(wait)
        case Told():
            tally.told[error.status] += 1
            tally.told_waits.note(wait)
        case Lost():
            tally.lose(str(error))
        case _:
            tally.fail(f"{type(error).__name__}: {error}")
