"""One driver process: it prepares its clients, says that it is ready, works for its span, and hands over its tally.

    python -m bench.load.process

It takes its job from standard input, since a fleet holds secrets, and answers on standard output. It ends when whoever
started it closes that input, whatever it is at. May not happen here: printing anything else there.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import select
import signal
import sys
import threading
from typing import BinaryIO

from bench.load.arrivals import Open
from bench.load.conversation import Origin
from bench.load.job import Job, Ready
from bench.load.loop import Loop, Span


def main() -> None:
    """Do the job that comes on standard input."""
    # A terminal sends its interrupt to everybody: it is the parent's to end this, and to say what was counted.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    try:
        _work(sys.stdin.buffer, sys.stdout.buffer)
    except (EOFError, pickle.UnpicklingError, BrokenPipeError):
        # The parent is gone, as `_end_with` is about to find out.
        os._exit(0)


def _work(source: BinaryIO, sink: BinaryIO) -> None:
    # pickle carries the job and its result between this program and its own parent, and nothing that came by network.
    job = pickle.load(source)
    assert isinstance(job, Job)
    _allow_many_connections(job.clients)
    try:
        loop = _prepared(job)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        _say(sink, Ready(f"{type(error).__name__}: {error}"))
        return
    # A collection of what was prepared would stand in the middle of the measurement.
    gc.collect()
    gc.freeze()
    _say(sink, Ready())
    while (span := pickle.load(source)) is not None:
        assert isinstance(span, Span)
        arrivals = job.arrivals
        if isinstance(arrivals, Open):
            late = arrivals.offset(job.number, job.processes)
            span = Span(span.start + late, span.counts, span.ends)
            arrivals = arrivals.part(job.processes)
        tally = loop.run(arrivals, span, seed=job.number + 1)
        _say(sink, tally)
    loop.close()


def _prepared(job: Job) -> Loop:
    origin = Origin(job.fleet.url)
    tls = job.fleet.trust.context() if origin.secure else None
    loop = Loop([], origin, tls, fresh=job.fleet.fresh)  # its epoll is made before any socket is
    loop.take(job.fleet.players(job.clients, job.ahead))
    loop.introduce()
    return loop


def _allow_many_connections(clients: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + 64
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def _end_with(number: int) -> None:
    """Wait until nobody holds the other end of a pipe any more, and end the process: a run may go on for an hour."""
    watched = select.poll()
    watched.register(number, 0)  # that it was hung up is told unasked, and nothing is read that is another's
    watched.poll()
    os._exit(0)


def _say(sink: BinaryIO, what: object) -> None:
    pickle.dump(what, sink)
    sink.flush()


if __name__ == "__main__":
    main()
