"""A web server for clients that leave their http-01 answers in a folder."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def challenge_folder(root: Path, port: int) -> Iterator[Path]:
    """Serve `root` on loopback for the length of a block; gives the folder that the answers go to (RFC 8555, 8.3)."""
    folder = root / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield folder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
