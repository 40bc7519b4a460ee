"""How often one address and one application may ask: read from settings, judged before anything of a request is read.

No header is looked at, and nothing kept here grows. An address is the connection's, as the listener knows it.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from gateway.actions.throttle import guesser
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.arrivals import ENTRY, Arrivals, Pace, Place

MEANT: Final = "a rate such as 50/s or 300/s burst 10000, with `when busy` behind it or not, or nothing"
TOO_OFTEN: Final = "too many requests at a time from this address"
TOO_MANY: Final = "too many enrollments at a time for this application"

WRONG: Final = 9
"""What a request that was wrong counts for beside itself: a storm costs its sender nothing, and us a verification."""

TABLE: Final = 65_536 * ENTRY
"""Bytes of a table that remembers 65,536 addresses and applications."""

_RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([smh])(?: burst ([1-9][0-9]{0,7}))?( when busy)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
# For so long after its last request an address counts as one that others must leave room for.
_LATELY: Final = 2.0  # seconds
# For so long after a refusal requests are looked at before they are parsed.
_ALERT: Final = 5.0  # seconds
_ROUNDING: Final = 0.01  # of one: a whole burst comes at once, whatever is lost in adding up its intervals
_SPREAD: Final = 4  # whoever is refused together comes back over so many seconds


@dataclass(frozen=True, slots=True)
class Rate:
    """A setting: so many come in so many seconds, and `burst` at once after a rest.

    `when_busy`: it bites only while there is too much to do and others ask who keep to theirs. So a bench, or a fleet
    behind one address, has all that is left over, and a storm nothing that others need.
    """

    pace: Pace
    when_busy: bool = False


def rate(setting: str) -> Rate | None:
    """The rate that a setting says, None where it is empty. Raises `ValueError`."""
    if setting in {"", "0"}:
        return None
    found = _RATE.fullmatch(setting)
    if found is None:
        raise ValueError(f"{setting!r} is not {MEANT}")
    count, seconds = int(found[1]), _SECONDS[found[2]]
    # Without a burst, what may come in one second (or else at once): clients open with a few requests in a row.
    burst = int(found[3]) if found[3] else math.ceil(count / seconds)
    return Rate(Pace(seconds / count, (burst - 1 + _ROUNDING) * seconds / count), when_busy=found[4] is not None)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is allowed: requests and new TLS connections of one address, enrollments of one application.

    None is any number. An IPv6 address stands for its network of `prefix` bits: a host can take any address in it.
    """

    address: Rate | None = None
    connections: Rate | None = None
    application: Rate | None = None
    exempt: Sequence[IPv4Network | IPv6Network] = ()
    prefix: int = 64


@dataclass(frozen=True, slots=True)
class _Whom:
    network: str
    requests: Place
    connections: Place


class Rates:
    """Counts who asks, and says who asks too often. `buffer` and `key` are shared by the workers of a machine.

    `pressed` says whether there is too much to do just now; `clock` is in seconds, the same in all processes.
    """

    def __init__(
        self,
        buffer: bytearray | memoryview | None = None,
        key: bytes = b"",
        allowed: Allowed | None = None,
        *,
        pressed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused = 0
        self._allowed = Allowed() if allowed is None else allowed
        self._arrivals = Arrivals(bytearray(TABLE) if buffer is None else buffer, key or secrets.token_bytes(32))
        self._pressed = pressed
        self._clock = clock
        self._alert_until = -math.inf
        # The last two who kept to their rate: of any one address, one of them is another.
        self._modest = ("", -math.inf)
        self._modest_too = ("", -math.inf)
        self._whom = lru_cache(maxsize=4096)(self._find)
        self._place = lru_cache(maxsize=4096)(self._arrivals.place)

    @property
    def reason(self) -> RefusalReason:
        """Why a request that comes too early is refused: where that is for others' sake, it is too much just now.

        The difference matters: clients give up at 429 that wait and come again at 503 (A89, uacme, SCEP's).
        """
        rate = self._allowed.address
        return RefusalReason.BUSY if rate is not None and rate.when_busy else RefusalReason.RATE_LIMITED

    @property
    def pressed(self) -> bool:
        """Whether there is too much to do just now."""
        return self._pressed()

    @property
    def alert(self) -> bool:
        """Whether somebody was refused lately, so that it is worth a look before a request is parsed."""
        return self._clock() < self._alert_until

    def request(self, address: str) -> int:
        """Count a request; gives after how many seconds it should come again, 0 if it may go on now."""
        rate = self._allowed.address
        if rate is None or (whom := self._whom(address)) is None:
            return 0
        now = self._clock()
        early = self._arrivals.take(whom.requests, rate.pace, now)
        if early <= 0:
            self._note(whom.network, early, rate, now)
            return 0
        return self._refusal(rate, early, now) if self._bites(rate, whom.network, now) else 0

    def require(self, address: str) -> None:
        """Count a request. Raises `Refusal`, with `reason` and `retry_after`, if it comes too early."""
        seconds = self.request(address)
        if seconds:
            raise Refusal(self.reason, TOO_OFTEN, retry_after=seconds)

    def failed(self, address: str) -> None:
        """A request of this address was wrong: a signature, a credential, a grammar. It counts as `WRONG` more."""
        rate = self._allowed.address
        if rate is not None and (whom := self._whom(address)) is not None:
            self._arrivals.charge(whom.requests, rate.pace, self._clock(), WRONG)

    def early(self, address: str) -> int:
        """What `request` would say to one that comes too early; nothing is counted but the refusal."""
        rate = self._allowed.address
        if rate is None or (whom := self._whom(address)) is None:
            return 0
        now = self._clock()
        early = self._arrivals.early(whom.requests, rate.pace, now)
        return self._refusal(rate, early, now) if early > 0 and self._bites(rate, whom.network, now) else 0

    def connection(self, address: str) -> bool:
        """Count a new TLS connection, whose handshake costs a signature; whether it may begin."""
        rate = self._allowed.connections
        if rate is None or (whom := self._whom(address)) is None:
            return True
        now = self._clock()
        early = self._arrivals.take(whom.connections, rate.pace, now)
        if early <= 0 or not self._bites(rate, whom.network, now):
            return True
        self.refused += 1
        return False

    def enrollment(self, application_id: str) -> None:
        """Count an enrollment that begins. Raises `Refusal` RATE_LIMITED, with `retry_after`, if it comes too early."""
        rate = self._allowed.application
        if rate is None:
            return
        now = self._clock()
        early = self._arrivals.take(self._place("application " + application_id), rate.pace, now)
        if early > 0 and (not rate.when_busy or self._pressed()):
            raise Refusal(RefusalReason.RATE_LIMITED, TOO_MANY, retry_after=self._refusal(rate, early, now))

    def early_enrollment(self, application_id: str) -> int:
        """What `enrollment` would say to one that comes too early; nothing is counted but the refusal."""
        rate = self._allowed.application
        if rate is None:
            return 0
        now = self._clock()
        early = self._arrivals.early(self._place("application " + application_id), rate.pace, now)
        bites = early > 0 and (not rate.when_busy or self._pressed())
        return self._refusal(rate, early, now) if bites else 0

    def _refusal(self, rate: Rate, early: float, now: float) -> int:
        self.refused += 1
        self._alert_until = now + _ALERT
        # Where whoever is refused goes on asking, the next that may come is one of many: all come over some seconds.
        return math.ceil(early) + self.refused % _SPREAD if rate.when_busy else math.ceil(early)

    def _bites(self, rate: Rate, network: str, now: float) -> bool:
        if not rate.when_busy:
            return True
        other = self._modest_too if self._modest[0] == network else self._modest
        return now - other[1] < _LATELY and self._pressed()

    def _note(self, network: str, early: float, rate: Rate, now: float) -> None:
        # Half of the burst unused: whoever asks as often as they may is no reason to refuse another who does.
        if -early * 2 < rate.pace.tolerance:
            return
        if self._modest[0] != network:
            self._modest_too = self._modest
        self._modest = (network, now)

    def _find(self, address: str) -> _Whom | None:
        """Whose count an address uses, None for one that is not counted."""
        network = guesser(address, self._allowed.prefix)
        # An IPv4 address in IPv6's clothes has become itself; of an IPv6 network it is the address that may be exempt.
        one = address if "/" in network else network
        if self._allowed.exempt and _within(one.partition("%")[0], self._allowed.exempt):
            return None
        place = self._arrivals.place
        return _Whom(network, place("requests " + network), place("connections " + network))


def _within(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in each for each in networks)
