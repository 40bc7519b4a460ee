"""What is measured, as families of figures: read from what runs, whenever somebody asks. Nothing is counted here.

No family has a label whose values a peer could choose. No secret, name of a client or address is among them.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.actions.publish import Publications
from gateway.actions.resources import Resources
from gateway.actions.vouch import Statuses
from gateway.domain.authority import AuthorityStatus
from gateway.fronts.exposition import Family, counter, gauge, histogram
from gateway.outbound.signer import BATCHES, Statistics
from gateway.serve.telemetry import Counters

_PAGE: Final = resource.getpagesize()
_STATES: Final = ("closed", "open", "probing")
_ENDS: Final = ("stuck", "crashed", "killed", "failed")


@dataclass(frozen=True, slots=True)
class Measured:
    """What is read. `began` is when the process started, in seconds since the epoch."""

    resources: Resources
    counters: Counters
    publications: Publications
    statuses: Statuses
    began: float

    def __call__(self) -> list[Family]:
        """All figures of this moment."""
        return [
            *_process(self.began),
            *_http(self.counters),
            *_enrollments(self.resources),
            gauge("muster_store_waiting", "Units of work that wait to be durable.", (self.resources.store.waiting, {})),
            *_signer(self.resources.signer.statistics()),
            *_authorities(self.resources, self.publications, self.statuses),
        ]


def started() -> float:
    """When this process started, in seconds since the epoch."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def _process(began: float) -> Iterator[Family]:
    # The names that every Prometheus client library gives them.
    size, resident = (int(each) * _PAGE for each in Path("/proc/self/statm").read_text(encoding="ascii").split()[:2])
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path's own takes four times as long
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield counter("process_cpu_seconds_total", "CPU time of the gateway's process.", (time.process_time(), {}))
    yield gauge("process_resident_memory_bytes", "Resident memory of the gateway's process.", (resident, {}))
    yield gauge("process_virtual_memory_bytes", "Virtual memory of the gateway's process.", (size, {}))
    yield gauge("process_open_fds", "Open descriptors of the gateway's process.", (descriptors, {}))
    yield gauge("process_max_fds", "How many it may have.", (most, {}))
    yield gauge("process_start_time_seconds", "When it started, since the epoch.", (began, {}))


def _http(counters: Counters) -> Iterator[Family]:
    classes = Counter({f"{each}xx": 0 for each in range(2, 6)})
    for status, number in counters.answers.items():
        classes[f"{status // 100}xx" if status else "none"] += number
    answers = [(number, {"class": each}) for each, number in sorted(classes.items())]
    meaning = "Answers by class of status; none: the client went away, or the gateway ended."
    yield counter("muster_http_answers_total", meaning, *answers)
    yield gauge("muster_http_requests_open", "Requests that are being answered.", (counters.open, {}))
    yield counter("muster_http_failures_total", "Requests that failed by a fault of ours.", (counters.failures, {}))


def _enrollments(resources: Resources) -> Iterator[Family]:
    counts = sorted(resources.enrollments.items())
    samples = [(number, {"protocol": protocol, "outcome": outcome}) for (protocol, outcome), number in counts]
    yield counter("muster_enrollments_total", "Enrollments by protocol and outcome.", *samples)


def _signer(known: Statistics) -> Iterator[Family]:
    asks = [(n, {"verb": verb, "outcome": what}) for (verb, what), n in sorted(known.outcomes.items())]
    yield counter("muster_signer_asks_total", "Asks to the signer, by verb and what became of them.", *asks)
    yield histogram("muster_signer_batch_asks", "Asks that travelled in one frame.", BATCHES, known.sizes, known.asks)
    yield gauge("muster_signer_waiting", "Asks that wait for a worker.", (known.waiting, {}))
    yield gauge("muster_signer_in_flight", "Asks that a worker has.", (known.in_flight, {}))
    yield gauge("muster_signer_workers", "Workers that are connected.", (known.workers, {}))
    ended = [(known.told.ended.get(cause, 0), {"cause": cause}) for cause in _ENDS]
    yield counter("muster_signer_worker_ends_total", "Workers that ended and were started again, by cause.", *ended)
    yield counter(
        "muster_signer_failovers_total",
        "Operations that another token did than a key's first.",
        (known.told.failovers, {}),
    )
    tokens = sorted(known.told.tokens.items())
    states = [(one.states.get(each, 0), {"token": name, "state": each}) for name, one in tokens for each in _STATES]
    yield gauge("muster_token_workers", "Workers by the state of their circuit for a token.", *states)
    openings = [(one.openings, {"token": name}) for name, one in tokens]
    yield counter("muster_token_circuit_openings_total", "How often a token began to be left alone.", *openings)
    failures = [
        (n, {"token": name, "failure": each}) for name, one in tokens for each, n in sorted(one.failures.items())
    ]
    yield counter(
        "muster_token_failures_total", "Operations that failed on a token, or were slow, by reason.", *failures
    )


def _authorities(resources: Resources, publications: Publications, statuses: Statuses) -> Iterator[Family]:
    now = resources.now()
    newest = statuses.newest()
    ends: list[tuple[float, dict[str, str]]] = []
    lists: list[tuple[float, dict[str, str]]] = []
    deltas: list[tuple[float, dict[str, str]]] = []
    answers: list[tuple[float, dict[str, str]]] = []
    for each in resources.catalogue().authorities:
        if each.status is AuthorityStatus.PENDING_CERTIFICATE:
            continue
        label = {"authority": each.name}
        ends.append((_until(each.not_after, now), label))
        if (due := publications.earliest(each.id)) is not None:
            lists.append((_until(due, now), label))
        if (due := publications.earliest_delta(each.id)) is not None:
            deltas.append((_until(due, now), label))
        if (signed := newest.get(each.id)) is not None:
            answers.append((_until(signed, now), label))
    yield gauge("muster_authority_not_after_seconds", "Until an authority's certificate ends.", *ends)
    yield gauge(
        "muster_crl_next_update_seconds", "Until nextUpdate of an authority's list, the first of several.", *lists
    )
    yield gauge(
        "muster_delta_crl_next_update_seconds", "Until nextUpdate of an authority's delta, the first one.", *deltas
    )
    yield gauge("muster_ocsp_next_update_seconds", "Until nextUpdate of the OCSP answer signed last.", *answers)
    yield gauge("muster_ocsp_answers_kept", "OCSP answers that are handed out again.", (len(statuses.held), {}))


def _until(moment: datetime, now: datetime) -> float:
    return (moment - now).total_seconds()
