"""The vocabulary that all protocols share: a typed conversation between a protocol and its host.

A protocol operation is a generator. It yields a `Need` (a fact or an act that it cannot supply
itself), is sent the answer, and returns its result, in the end a `Reply`. The host drives it; a test
plays it by hand. Nothing here knows of sockets, clocks, dice, databases or keys.
"""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum, unique

# `Any` appears in this file and nowhere else in the project: a generator's send type is one type for
# all its yields, while each need has an answer type of its own. `ask` gives every answer its type back.
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")
R = TypeVar("R")


class Need(Generic[T]):
    """Something that a protocol asks of its host; `T` is the type of the answer.

    Subclasses are frozen structs (`msgspec.Struct`). Each protocol lists its own in `needs.py`; the list is closed.
    """

    __slots__ = ()


Exchange: TypeAlias = Generator[Need[Any], Any, R]


def ask(need: Need[T]) -> Generator[Need[Any], Any, T]:
    """Yield `need` and give back the host's answer with the type that the need declares.

    Raises whatever the host throws in: `Refused` where it decided against, anything else is a bug.
    """
    answer: T = yield need
    return answer


class Reply(msgspec.Struct, frozen=True):
    """A whole HTTP answer.

    `media_type` goes out exactly as written, without parameters added (sscep and libest compare it byte
    for byte); None sends no Content-Type. Content-Length is added by the host. `wrong`: the peer's request was at
    fault, where the status does not say so; the host counts it for its sender.
    """

    status: int
    body: bytes = b""
    media_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    wrong: bool = False


class Malformed(Exception):
    """The peer's bytes do not mean anything. The peer's fault; never ours.

    `detail` is one sentence for the peer that says what to change; `field` names the offending part,
    in the words of the protocol (`payload.identifiers`, `csr`, `message`).
    """

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


@unique
class Reason(Enum):
    """Why the host refused. Each protocol's `failures.py` has one row for each reason."""

    POLICY = "policy"  # names, usages, validity or algorithms that the policy does not allow
    BAD_KEY = "bad-key"  # the public key is weak, blocked or of a kind that the policy does not allow
    BAD_CSR = "bad-csr"  # the request's signature, version or contents are not acceptable
    NAME_MISMATCH = "name-mismatch"  # the request's names are not those that were authorized
    UNAUTHENTICATED = "unauthenticated"  # no credentials, or wrong ones
    FORBIDDEN = "forbidden"  # known, and not allowed
    NOT_FOUND = "not-found"  # no such thing, or none that this caller may know of
    CONFLICT = "conflict"  # the thing is not in the state that the request needs
    REVOKED = "revoked"  # the certificate presented is revoked
    EXPIRED = "expired"  # the certificate presented, or the thing asked for, has expired
    RATE_LIMITED = "rate-limited"  # too many; `retry_after` says when
    BUSY = "busy"  # the queue is full; nothing was done; `retry_after` says when
    UNAVAILABLE = "unavailable"  # signer or store out of reach; nothing was issued; `retry_after` says when


class Refused(Exception):
    """The host's decision against a request.

    `detail` may be shown to the peer. `violations` are all the reasons together (D1), one sentence each.
    `retry_after` is in seconds and set where trying again can help.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        violations: tuple[str, ...] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.violations = violations
        self.retry_after = retry_after
