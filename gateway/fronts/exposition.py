"""Figures in Prometheus' text format, version 0.0.4. Nothing is measured here, and who may read is not asked.

Never here: a label whose values a peer can choose, since each value is kept for ever by whoever scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@unique
class Measure(StrEnum):
    """What kind of figure: one that never falls, one of this moment, or counts by size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure. `suffix` is added to the family's name (`_bucket`, `_sum`, `_count`)."""

    value: float
    labels: Mapping[str, str]
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """All figures of one name. `meaning` is a sentence for people."""

    name: str
    measure: Measure
    meaning: str
    samples: Sequence[Sample]


def counter(name: str, meaning: str, *samples: tuple[float, Mapping[str, str]]) -> Family:
    """Counters of one name, which ends with `_total`."""
    return Family(name, Measure.COUNTER, meaning, [Sample(value, labels) for value, labels in samples])


def gauge(name: str, meaning: str, *samples: tuple[float, Mapping[str, str]]) -> Family:
    """Figures of this moment, of one name."""
    return Family(name, Measure.GAUGE, meaning, [Sample(value, labels) for value, labels in samples])


def histogram(name: str, meaning: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> Family:
    """How many were at most as large as each of `bounds`; `counts` are those between two of them, `total` the sum."""
    samples: list[Sample] = []
    within = 0
    for bound, count in zip(bounds, counts, strict=True):
        within += count
        samples.append(Sample(within, {"le": _number(bound)}, "_bucket"))
    samples.append(Sample(within, {"le": "+Inf"}, "_bucket"))
    samples += [Sample(total, {}, "_sum"), Sample(within, {}, "_count")]
    return Family(name, Measure.HISTOGRAM, meaning, samples)


def exposed(families: Iterable[Family]) -> bytes:
    """The whole page; a family without a figure is left out."""
    return "".join(line for family in families if family.samples for line in _lines(family)).encode()


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.meaning}\n"
    yield f"# TYPE {family.name} {family.measure}\n"
    for each in family.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in each.labels.items())
        yield f"{family.name}{each.suffix}{f'{{{labels}}}' if labels else ''} {_number(each.value)}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
