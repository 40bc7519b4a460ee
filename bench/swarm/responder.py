"""Answers http-01 (RFC 8555, 8.3) for every process of the swarm on this machine: whichever is asked knows them all.

All listen at one port (SO_REUSEPORT), and the kernel chooses who is asked; what to say stands in a folder that they
share, one file a token. So none has to be there first, and none is missed when it ends. May not happen here: any other
path than the challenge's, a file whose name is not a token's.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gevent import socket as cooperative
from gevent.server import StreamServer

_PATH: Final = b"/.well-known/acme-challenge/"
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]{1,200}")  # the base64url alphabet of RFC 8555, 8.3, within a file's name
_FORGOTTEN: Final = 3600.0  # seconds after which a key authorization is one that a killed process left


class KeyAuthorizations:
    """What to say for which token, as all processes of one user on one machine know it: files in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder is somebody else's: what it says would be, too."""
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{folder} is not a folder of this user alone")
        self._folder = folder
        for each in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process forgot it first
                if time.time() - each.stat().st_mtime > _FORGOTTEN:
                    each.unlink()

    def say(self, token: str, key_authorization: str) -> None:
        """Whole when this returns: the server is asked to look only afterwards."""
        self._folder.joinpath(token).write_text(key_authorization, encoding="ascii")

    def forget(self, token: str) -> None:
        """Nobody asks for it any more."""
        self._folder.joinpath(token).unlink(missing_ok=True)

    def get(self, token: bytes) -> bytes | None:
        """The key authorization, or None where nobody said one."""
        try:
            return self._folder.joinpath(token.decode("ascii")).read_bytes()
        except FileNotFoundError:
            return None


class Responder:
    """Has `address` (`HOST:PORT`) from the beginning, and listens there from `start` on."""

    def __init__(self, address: str) -> None:
        """Raises OSError where the address is not this machine's, or taken by anything but a swarm of this user."""
        self.said = KeyAuthorizations(Path(tempfile.gettempdir(), f"swarm-http01-{os.getuid()}"))
        host, _, port = address.rpartition(":")
        self._bound = _bound(host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port))
        self._server = StreamServer(self._bound, self._serve)

    def start(self) -> None:
        """Listen. Raises OSError where somebody else has begun to."""
        self._bound.listen(1024)
        self._server.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.stop()
        self._bound.close()

    def _serve(self, connected: socket.socket, _address: object) -> None:
        with connected:
            connected.settimeout(10)
            data = b""
            while b"\r\n\r\n" not in data and len(data) < 8192:
                received = connected.recv(4096)
                if not received:
                    return
                data += received
            connected.sendall(answer(data, self.said.get))


def is_token(text: str) -> bool:
    """Whether a challenge's token is one: it becomes a part of a path, and the name of a file."""
    return _TOKEN.fullmatch(text.encode()) is not None


def answer(head: bytes, said: Callable[[bytes], bytes | None]) -> bytes:
    """The answer to a request's head: the key authorization, or 404."""
    words = head.split(b" ", 2)
    token = words[1].removeprefix(_PATH) if len(words) == 3 and words[1].startswith(_PATH) else b""
    body = said(token) if _TOKEN.fullmatch(token) else None
    status = b"404 Not Found" if body is None else b"200 OK"
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (status, len(body or b""), body or b"")
    )


def _bound(host: str, port: int) -> socket.socket:
    family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made: socket.socket = cooperative.socket(family, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(place)
    except BaseException:
        made.close()
        raise
    return made
