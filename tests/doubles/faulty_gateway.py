"""A real gateway that kills itself with SIGKILL at a named point of an enrollment.

    python tests/doubles/faulty_gateway.py POINT ARMED serve --data DIR ...

The worker that comes to POINT takes its parent with it as soon as the file ARMED exists; until then it is an ordinary
gateway. The points are the boundaries at which something durable has just been done, or is about to be.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.fronts import carry
from gateway.outbound.signer import Signer
from gateway.store import issuance

WORKER = "worker"
POINTS = (
    "in-reserve",  # the reservation is written and not committed
    "before-sign",  # the reservation is durable, nothing has been asked of the signer
    "after-sign",  # signed, and not recorded
    "in-complete",  # the certificate is written and not committed
    "after-complete",  # recorded, and not answered
    "after-reply",  # answered
)


def install(point: str, armed: Path) -> None:
    """Wrap the function at `point`."""

    def die() -> None:
        if armed.exists():
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    if point == "in-reserve":
        issuance.reserve = after(issuance.reserve, die)
    elif point == "before-sign":
        Signer.issue = before_await(Signer.issue, die)
    elif point == "after-sign":
        Signer.issue = after_await(Signer.issue, die)
    elif point == "in-complete":
        issuance.complete = after(issuance.complete, die)
    elif point == "after-complete":
        from gateway.actions import enroll

        enroll.issued = after(enroll.issued, die)
    elif point == "after-reply":
        from gateway.actions import enroll

        # Only the reply of an enrollment that began under arms counts: an earlier one may still be on its way out.
        leaving = [False]

        def leave() -> None:
            leaving[0] = armed.exists()

        enroll.issued = after(enroll.issued, leave)
        carry.ReplyResponse.__call__ = after_await(carry.ReplyResponse.__call__, lambda: die() if leaving[0] else None)
    else:
        raise SystemExit(f"no such point: {point}")


def after(function: Callable[..., object], then: Callable[[], None]) -> Callable[..., object]:
    def wrapped(*arguments: object, **named: object) -> object:
        result = function(*arguments, **named)
        then()
        return result

    return wrapped


def before_await(
    function: Callable[..., Awaitable[object]], first: Callable[[], None]
) -> Callable[..., Awaitable[object]]:
    async def wrapped(*arguments: object, **named: object) -> object:
        first()
        return await function(*arguments, **named)

    return wrapped


def after_await(
    function: Callable[..., Awaitable[object]], then: Callable[[], None]
) -> Callable[..., Awaitable[object]]:
    async def wrapped(*arguments: object, **named: object) -> object:
        result = await function(*arguments, **named)
        then()
        return result

    return wrapped


if __name__ == "__main__":
    if sys.argv[3] == WORKER:
        from gateway.serve.workers.__main__ import main as work

        install(sys.argv[1], Path(sys.argv[2]))
        sys.exit(work())
    from gateway.cli.main import main
    from gateway.serve.workers import process

    process.command = lambda: [sys.executable, "-P", *sys.argv[:3], WORKER]
    sys.exit(main(sys.argv[3:]))
