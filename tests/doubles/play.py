"""Playing an exchange by hand: the host of a protocol operation, without socket, clock or store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from protocols.exchange import Exchange, Need, Refused

R = TypeVar("R")


def play(exchange: Exchange[R], answer: Callable[[Need[object]], object]) -> R:
    """Answer each need with `answer(need)` until the exchange returns, and give its result.

    A `Refused` that `answer` raises is thrown into the exchange, as the host throws it. Anything else propagates.
    """
    try:
        need = next(exchange)
        while True:
            try:
                given = answer(need)
            except Refused as refusal:
                need = exchange.throw(refusal)
            else:
                need = exchange.send(given)
    except StopIteration as end:
        result: R = end.value
        return result


def settle(exchange: Exchange[R]) -> R:
    """Play an exchange that must need nothing."""

    def none(need: Need[object]) -> object:
        raise AssertionError(f"nothing should be needed, but {need!r} was")

    return play(exchange, none)
