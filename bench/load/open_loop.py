"""One thread, kept connections, arrivals that do not wait: the next comes at its time, whoever is still unanswered.

Sockets do not block and requests are made beforehand, so that a driver on a core of its own is not the limit. It reads
only answers with a Content-Length.
"""

from __future__ import annotations

import itertools
import math
import select
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PATIENCE = 1.0  # seconds that an arrival waits for a free connection, before it is counted as late
# Seconds after a run in which what is under way may still be answered, before it is counted as lost.
LAST = 10.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of the arrivals of the time that counts. Seconds; `waits` are sorted, from arrival to answer.

    `lost` of them had their connection broken, or no answer by the end of the run. Statuses are of what was answered in
    that time, whenever it came: they and `arrived` differ by what was under way at its two ends.
    """

    seconds: float
    arrived: int
    statuses: Counter[int]
    late: int
    lost: int
    waits: list[float] = field(repr=False)
    told_waits: list[float] = field(repr=False)


class Connections:
    """Kept connections to one origin, each with TLS where the URL says so."""

    def __init__(self, url: str, root: str, count: int) -> None:
        parts = urlsplit(url)
        self._where = (parts.hostname or "127.0.0.1", parts.port or 443)
        self._tls = ssl.create_default_context(cafile=root) if parts.scheme == "https" else None
        self._poll = select.epoll()
        self._open: dict[int, _Kept] = {}
        self.idle: deque[_Kept] = deque()
        for _ in range(count):
            self._connect()

    def close(self) -> None:
        """Close them all."""
        for each in self._open.values():
            each.socket.close()
        self._poll.close()

    def run(self, requests: Sequence[bytes], *, rate: float | None, seconds: float, warm_up: float) -> Answers:
        """Send `requests`, over and over: `rate` a second, or, without a rate, whenever a connection is free."""
        began = time.perf_counter()
        counts, ends = began + warm_up, began + warm_up + seconds
        run = _Run(itertools.cycle(requests), counts, ends)
        waiting: deque[float] = deque()
        arrivals = 0
        while (now := time.perf_counter()) < ends + PATIENCE:
            if rate is None:
                arrivals += self._ask_all(run, now) if now < ends else 0
            else:
                while now < ends and began + arrivals / rate <= now:
                    waiting.append(began + arrivals / rate)
                    arrivals += 1
                self._ask_waiting(run, waiting, now)
            self._hear(run, 0.001)
        while any(each.due is not None for each in self._open.values()) and time.perf_counter() < ends + LAST:
            self._hear(run, 0.01)
        for each in list(self._open.values()):
            if each.due is not None:
                self._lose(run, each)  # its answer is of this run, and must not be taken for one of the next
        return run.answers(seconds)

    def _ask_all(self, run: _Run, now: float) -> int:
        count = len(self.idle)
        for _ in range(count):
            run.arrived += now >= run.counts
            self._ask(run, now)
        return count

    def _ask_waiting(self, run: _Run, waiting: deque[float], now: float) -> None:
        while waiting and (self.idle or now - waiting[0] > PATIENCE):
            due = waiting.popleft()
            run.arrived += due >= run.counts
            if now - due > PATIENCE:
                run.late += due >= run.counts
            else:
                self._ask(run, due)

    def _ask(self, run: _Run, due: float) -> None:
        each = self.idle.popleft()
        try:
            each.ask(next(run.requests), due)
        except OSError:
            self._lose(run, each)  # the server has closed it since its last answer

    def _hear(self, run: _Run, seconds: float) -> None:
        for number, _ in self._poll.poll(seconds):
            each = self._open[number]
            try:
                status = each.hear()
            except OSError:
                self._lose(run, each)
                continue
            if status is None:
                continue
            now = time.perf_counter()
            if each.due is not None and run.counts <= now < run.ends:
                run.note(status, now - each.due)
            each.due = None
            if each.closing:
                self._replace(each)
            else:
                self.idle.append(each)

    def _lose(self, run: _Run, each: _Kept) -> None:
        run.lost += each.due is not None and each.due >= run.counts
        self._replace(each)

    def _replace(self, each: _Kept) -> None:
        self._poll.unregister(each.socket)
        del self._open[each.socket.fileno()]
        each.socket.close()
        if each in self.idle:
            self.idle.remove(each)
        self._connect()

    def _connect(self) -> None:
        raw = socket.create_connection(self._where, timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kept = raw if self._tls is None else self._tls.wrap_socket(raw, server_hostname=self._where[0])
        kept.setblocking(False)
        each = _Kept(kept)
        self._open[kept.fileno()] = each
        self._poll.register(kept, select.EPOLLIN)
        self.idle.append(each)


class _Kept:
    """One connection. `due` is when the request that it has was to be sent, None while it has none."""

    __slots__ = ("_data", "_rest", "closing", "due", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.due: float | None = None
        self.closing = False
        self._data = b""
        self._rest = math.inf

    def ask(self, request: bytes, due: float) -> None:
        """Send a request. They are short, and the last one was answered: the socket has room for it.

        Raises OSError where the connection has ended.
        """
        self.due = due
        self.socket.send(request)

    def hear(self) -> int | None:
        """The status of the answer, once it is whole. Raises OSError where the connection has ended."""
        try:
            while True:
                received = self.socket.recv(65536)
                if not received:
                    raise ConnectionResetError("the server closed the connection")
                self._data += received
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._data[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
        if len(self._data) < end + 4 + length:
            return None
        self._data = b""
        self.closing = b"connection: close" in head
        return int(head.split(b" ", 2)[1])


@dataclass(slots=True)
class _Run:
    """The counters of one run; what comes before `counts` or after `ends` is not counted."""

    requests: itertools.cycle[bytes]
    counts: float
    ends: float
    arrived: int = 0
    late: int = 0
    lost: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    def note(self, status: int, wait: float) -> None:
        self.statuses[status] += 1
        if status < 300:
            self.waits.append(wait)
        elif status == 503:
            self.told.append(wait)

    def answers(self, seconds: float) -> Answers:
        waits, told = sorted(self.waits), sorted(self.told)
        return Answers(seconds, self.arrived, self.statuses, self.late, self.lost, waits, told)
