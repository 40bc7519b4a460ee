"""Figures of several workers as those of one gateway. Pure: nothing is measured, sent or kept here.

What counts what a worker did is added up, those that are gone included, so that no counter ever falls; what all of them
are told alike (the signer's own figures, terms of certificates) is taken once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.fronts.exposition import Family, Measure
from gateway.fronts.exposition import Sample as Shown
from gateway.serve.workers.orders import Figure, Sample

# Each signer worker tells all its clients the same.
_ALIKE: Final = frozenset(
    {
        "muster_signer_workers",
        "muster_signer_worker_ends_total",
        "muster_signer_failovers_total",
        "muster_token_workers",
        "muster_token_circuit_openings_total",
        "muster_token_failures_total",
        "process_max_fds",
    }
)
_EARLIEST: Final = "process_start_time_seconds"


def figures(families: Iterable[Family]) -> list[Figure]:
    """For the wire."""
    return [
        Figure(
            each.name,
            each.measure.value,
            each.meaning,
            [Sample(one.value, tuple(one.labels.items()), one.suffix) for one in each.samples],
        )
        for each in families
    ]


def families(known: Iterable[Figure]) -> list[Family]:
    """For the page."""
    return [
        Family(
            each.name,
            Measure(each.measure),
            each.meaning,
            [Shown(one.value, dict(one.labels), one.suffix) for one in each.samples],
        )
        for each in known
    ]


def added(reports: Iterable[Iterable[Figure]]) -> list[Figure]:
    """All reports as one; families and labels in the order in which they were first seen."""
    found: dict[str, tuple[Figure, dict[tuple[tuple[tuple[str, str], ...], str], float]]] = {}
    for report in reports:
        for figure in report:
            samples = found.setdefault(figure.name, (figure, {}))[1]
            for sample in figure.samples:
                key = sample.labels, sample.suffix
                samples[key] = _joined(figure, samples, key, sample.value)
    return [_whole(figure, samples) for figure, samples in found.values()]


def lasting(report: Iterable[Figure]) -> list[Figure]:
    """What remains of a worker that is gone: what it counted."""
    return [each for each in report if each.measure != Measure.GAUGE and each.name not in _ALIKE]


def _joined(
    figure: Figure,
    samples: Mapping[tuple[tuple[tuple[str, str], ...], str], float],
    key: tuple[tuple[tuple[str, str], ...], str],
    value: float,
) -> float:
    if key not in samples:
        return value
    if figure.name == _EARLIEST:
        return min(samples[key], value)
    if figure.name in _ALIKE or (figure.measure == Measure.GAUGE and figure.name.endswith("_seconds")):
        return max(samples[key], value)
    return samples[key] + value


def _whole(figure: Figure, samples: Mapping[tuple[tuple[tuple[str, str], ...], str], float]) -> Figure:
    told = [Sample(value, labels, suffix) for (labels, suffix), value in samples.items()]
    return Figure(figure.name, figure.measure, figure.meaning, told)
