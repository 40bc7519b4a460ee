"""A worker's program: `python -m gateway.serve.workers`, started by the parent alone, its orders on standard input."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from functools import partial

_READ = 65536


def main() -> int:
    """Load, wait for orders, serve, and give the exit status."""
    # The parent decides: a Ctrl-C or a hang-up is for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A thousand classes are made now and never let go: looking through them for garbage, now or under load, costs a
    # tenth of the start, and pauses later.
    gc.disable()
    import trio

    from gateway.serve.lifespan import serve
    from gateway.serve.workers import orders
    from gateway.serve.workers.orders import Orders

    gc.freeze()
    gc.enable()
    channel = socket.socket(fileno=0)
    written = b""
    while b"\n" not in written:
        part = channel.recv(_READ)
        if not part:
            return 0  # whoever wanted a worker has gone
        written += part
    line, _, rest = written.partition(b"\n")
    told = orders.to_worker(line)
    if not isinstance(told, Orders):
        return 2
    channel.setblocking(False)
    return trio.run(partial(serve, told, channel, rest), strict_exception_groups=True)


if __name__ == "__main__":
    sys.exit(main())
