"""What every user of the swarm does alike: ask, wait when told to, count by the protocol's own words, pace itself.

May not happen here: a protocol. A row of locust's table is an operation (`newOrder`), what was not done at once is a
row beside it (`newOrder: told to wait (503)`), and `enrollment` is the whole of it, waits included.
"""

from __future__ import annotations

import itertools
import logging
import random
import secrets
import time
from collections.abc import Callable
from typing import ClassVar, Final

import gevent
from cryptography.hazmat.primitives.asymmetric import ec
from locust import User, task
from locust.env import Environment

from bench.load.conversation import Answer, Failed
from bench.load.requests import elliptic
from bench.swarm.connection import Connections
from bench.swarm.options import Options
from bench.swarm.responder import Responder
from bench.swarm.told import of_the_network, wait

log = logging.getLogger("swarm")

MOST_TOLD: Final = 10  # times that one request is told to wait, before its client gives up
_KEYS: Final = 256  # prepared; a certification request signs with another one each time

_numbers = itertools.count(1)
_run = secrets.token_hex(3)  # two runs, or two processes of one, do not ask for the same names


class Ended(Exception):
    """This enrollment came to nothing; the text says at what, in few enough words to be counted."""


class Member(User):
    """A client that enrolls again and again. A subclass says how it begins, once, and what an enrollment is."""

    abstract = True
    door: ClassVar[str] = ""
    told: ClassVar[Options] = Options()
    responder: ClassVar[Responder | None] = None
    _keys: ClassVar[list[ec.EllipticCurvePrivateKey]] = []

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.connections = Connections(self.told.trust().context())
        self._begun = False

    def begin(self) -> None:
        """What is done once: fetch what everybody fetches, make an account. Raises Ended."""

    def work(self) -> None:
        """One enrollment. Raises Ended."""
        raise NotImplementedError

    @task
    def enroll(self) -> None:
        """One enrollment, as a row of its own."""
        began = time.perf_counter()
        try:
            if not self._begun:
                self.begin()
                self._begun = True
                began = time.perf_counter()
            self.work()
        except Ended as ended:
            self._note("enrollment", time.perf_counter() - began, error=ended)
        else:
            self._note("enrollment", time.perf_counter() - began)

    def wait_time(self) -> float:
        """Seconds between two enrollments: around the pace, so that a fleet does not march in step."""
        return random.uniform(0.5, 1.5) * self.told.pace

    def on_stop(self) -> None:
        """Close what is open."""
        self.connections.close()

    def ask(
        self,
        what: str,
        method: str,
        url: str,
        body: bytes | None = None,
        *headers: str,
        good: tuple[int, ...] = (200,),
        excused: Callable[[Answer], str] | None = None,
        wrong: Callable[[Answer], str] | None = None,
        over: Connections | None = None,
    ) -> Answer:
        """One operation: its answer, after as many waits as the server asked for. Each exchange is counted once.

        `excused` names what is neither success nor failure; such an answer is counted apart, and given. `wrong` says
        what a `good` status hides, an empty text for nothing: a failure. Both look after the clock was stopped.
        Raises Ended where it came to nothing, which is then counted.
        """
        connections = over or self.connections
        waits = 0
        while True:
            began = time.perf_counter()
            try:
                answer = connections.ask(method, url, body, headers)
            except (OSError, Failed) as trouble:
                raise self._failed(what, time.perf_counter() - began, of_the_network(trouble)) from None
            seconds = time.perf_counter() - began
            if excused is not None and (apart := excused(answer)):
                self._note(f"{what}: {apart}", seconds, len(answer.body))
                return answer
            if answer.status in good:
                if wrong is not None and (meaning := wrong(answer)):
                    raise self._failed(what, seconds, meaning, answer)
                self._note(what, seconds, len(answer.body))
                return answer
            if answer.status not in {429, 503}:
                raise self._failed(what, seconds, self.meaning(answer), answer)
            waits += 1
            if waits == MOST_TOLD:
                raise self._failed(what, seconds, f"told to wait {MOST_TOLD} times", answer)
            self._note(f"{what}: told to wait ({answer.status})", seconds, len(answer.body))
            gevent.sleep(wait(answer))

    def meaning(self, answer: Answer) -> str:
        """What an answer that was not hoped for means, in the protocol's word where it has one."""
        return f"HTTP {answer.status}"

    def _failed(self, what: str, seconds: float, meaning: str, answer: Answer | None = None) -> Ended:
        """Count a failure, and give what ends the enrollment."""
        if answer is not None:
            log.debug("%s %s: %s %r", self.door, what, answer.status, answer.body[:500])
        self._note(what, seconds, error=Ended(meaning))
        return Ended(f"{what}: {meaning}")

    def _note(self, what: str, seconds: float, length: int = 0, error: Exception | None = None) -> None:
        """One line of locust's statistics."""
        self.environment.events.request.fire(
            request_type=self.door.upper(),
            name=what,
            response_time=seconds * 1000,
            response_length=length,
            exception=error,
            context={},
        )

    def name(self) -> str:
        """A host name that nobody else of this run asks for, by `--names`."""
        return self.numbered(self.told.names)

    @staticmethod
    def numbered(pattern: str) -> str:
        """The pattern with its `{number}` filled in; a pattern without one is a name that all share."""
        return pattern.replace("{number}", f"{next(_numbers)}-{_run}")

    @classmethod
    def key(cls) -> ec.EllipticCurvePrivateKey:
        """One of the keys that were prepared."""
        return random.choice(Member._keys)

    @classmethod
    def prepare(cls) -> None:
        """Make what is slow to make, before anybody is timed: making keys holds up every user of this process."""
        Member._keys = Member._keys or [elliptic() for _ in range(_KEYS)]
