"""A sampler inside a gateway worker: at every few milliseconds of CPU time it notes in which room the worker is.

It rides on SIGPROF (setitimer(2), ITIMER_PROF), which counts the process's own CPU time: what waits is not seen, what
works is seen as often as it works. Python runs the handler at the next instruction of the main thread, so that time in
a C function counts for who called it. A sampling thread would see a worker only where it gives up the interpreter's
lock, which is where it waits. Loaded by a `sitecustomize` that `bench.where` puts on the worker's path, so the product
knows nothing of it. May not happen here: anything in a process that is no gateway worker.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

FOLDER: Final = "BENCH_WHERE"  # the variable that names the folder for what was counted
PERIOD: Final = 0.004  # seconds of CPU time; the kernel's own tick on most machines, and it does not go below that
WORKER: Final = "gateway.serve.workers"

HTTP: Final = "HTTP and TLS"
FRONT: Final = "front and protocol"
WAIST: Final = "waist"
STORE: Final = "store"
ASKS: Final = "asks to the signer"
LOOP: Final = "trio's loop"
ROOMS: Final = (HTTP, LOOP, FRONT, WAIST, STORE, ASKS)

# By the innermost frame of a file below one of these; what is in none of them counts for its caller.
_PLACES: Final = (
    ("/gateway/serve/asgi", FRONT),
    ("/gateway/serve/", HTTP),
    ("/hypercorn/", HTTP),
    ("/trio/_ssl.py", HTTP),
    ("/starlette/", FRONT),
    ("/gateway/fronts/", FRONT),
    ("/protocols/", FRONT),
    ("/gateway/actions/", WAIST),
    ("/gateway/domain/", WAIST),
    ("/gateway/jobs/", WAIST),
    ("/gateway/store/", STORE),
    ("/gateway/outbound/", ASKS),
    ("/signer/", ASKS),
)
_known: dict[str, str] = {}


def room(frame: FrameType | None) -> str:
    """The room of a stack: that of its innermost frame that belongs to one; the loop's where the loop is innermost."""
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code.co_name == "unrolled_run":
            return LOOP
        found = _known.get(file)
        if found is None:
            found = _known[file] = next((place for part, place in _PLACES if part in file), "")
        if found:
            return found
        frame = frame.f_back
    return LOOP


def start(folder: Path) -> None:
    """Count from now on. SIGUSR2 writes what was counted to `folder`, and begins anew."""
    counted: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        counted[room(frame)] += 1

    def hand_over(_: int, __: FrameType | None) -> None:
        part = folder / f"{os.getpid()}.part"
        part.write_text(json.dumps(counted))
        part.rename(folder / f"{os.getpid()}.json")
        counted.clear()

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR2, hand_over)
    signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)
    # At its end Python gives signals their own meaning back, and that of SIGPROF is death.
    atexit.register(signal.setitimer, signal.ITIMER_PROF, 0.0)


def start_in_a_worker() -> None:
    """What `sitecustomize` calls in every process that inherits the path."""
    if (folder := os.environ.get(FOLDER)) and WORKER in sys.orig_argv:
        start(Path(folder))
