"""The gateway's side of the wire: bounded, fair between applications, batched by draining.

While a worker is busy asks gather; when it is free, one frame carries what waits. Nobody waits on a timer. An ask is
sent once: what became of it is told, or it is `WorkerLost`, and then it may have been signed. Never here: a key, a
file, anything that only a worker may import. The gateway's `outbound.signer` comes in, and nobody else.
"""

from __future__ import annotations

from signer.client.client import SignerClient, Statistics
from signer.client.figures import BATCHES, TokenStatistics, WorkersStatistics
from signer.client.waiting import Busy, Unreachable, WorkerLost

__all__ = [
    "BATCHES",
    "Busy",
    "SignerClient",
    "Statistics",
    "TokenStatistics",
    "Unreachable",
    "WorkerLost",
    "WorkersStatistics",
]
