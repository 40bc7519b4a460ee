"""How long asks take a worker, learnt from what workers say. Estimates only: nothing is refused or timed here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from signer.contract.messages import GenerateKey, IssueCertificate, SignAttributes, SignCrl, SignOcsp, UnwrapKey, Verb

Kind: TypeAlias = tuple[type[Verb], str]

_FIRST: Final = 0.00005  # seconds; a kind that was never seen is thought to be quick: its first frame tells, once
_LEAST: Final = 0.00001  # seconds; an ask that is refused at a glance
# An ask that is thought to take longer than it may is never sent, and nobody would learn that the token works again:
# what was slow once, or stood still, is tried all the same, by whoever has not waited.
_MOST: Final = 5.0  # seconds; half of what an ask is given
_LEARNING: Final = 1 / 8  # a moving average of about eight frames: a token that slows down is noticed within them
_MOST_KINDS: Final = 1024  # one for each verb and key; more than any installation has


def kind(verb: Verb) -> Kind:
    """What decides the cost of `verb`: itself and the key that it is for (an RSA-4096 key takes 100 times a P-256)."""
    match verb:
        case IssueCertificate() | SignCrl() | SignOcsp():
            return type(verb), verb.issuer
        case UnwrapKey() | SignAttributes():
            return type(verb), verb.ra
        case GenerateKey():
            return type(verb), verb.algorithm


class Pace:
    """Seconds of a worker's time by kind of ask, moving averages."""

    __slots__ = ("_costs",)

    def __init__(self) -> None:
        self._costs: dict[Kind, float] = {}

    def of(self, kind: Kind) -> float:
        """What an ask of this kind is expected to take."""
        return self._costs.get(kind, _FIRST)

    def learn(self, kinds: Iterable[Kind], took: float) -> None:
        """A frame with asks of these kinds took so many seconds: the estimates of all of them move alike."""
        listed = list(kinds)
        expected = sum(map(self.of, listed))
        if not listed or took < 0:
            return
        ratio = took / expected
        if len(self._costs) >= _MOST_KINDS:
            self._costs.clear()
        for each in set(listed):
            known = self._costs.get(each)
            # The first frame of a kind says more than our guess does.
            weight = 1.0 if known is None else _LEARNING
            self._costs[each] = min(_MOST, max(_LEAST, self.of(each) * (1 + weight * (ratio - 1))))
