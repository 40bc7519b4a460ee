"""Calls of the signer's offline verbs: keys and certificates of authorities are made there, and only described here.

The unlock secret goes by standard input, never by an argument or a variable that others could read. No private key
comes back.
"""

from __future__ import annotations

import secrets
import socket
from typing import Final

import msgspec

from gateway.serve.folder import Folder, write_private
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.signer_process import run_once


class Made(msgspec.Struct, frozen=True):
    """A key that the signer holds by this name, and its certificate, PEM. `chain` goes up to the root."""

    key: str
    certificate: str
    chain: list[str] = []


class Manifest(msgspec.Struct, frozen=True):
    """What the first ceremony made."""

    root: Made
    issuing: Made
    ra: Made


_MANIFEST: Final = msgspec.json.Decoder(Manifest)


def make_secret(folder: Folder) -> str:
    """Make the key store's unlock secret, 256 random bits, and keep it in the folder (0600)."""
    secret = secrets.token_urlsafe(32)
    write_private(folder.secret, secret.encode() + b"\n")
    return secret


def first(settings: Settings, secret: str) -> Manifest:
    """Make the first authorities, the RA and the listener's certificate, or find those of a start that was interrupted.

    Blocks for a second or two. Raises `CannotStart`.
    """
    folder = Folder(settings.data)
    arguments = ["first", "--keys", str(folder.keys), "--tls", str(folder.tls), "--host", socket.gethostname()]
    return read(run_once(arguments, secret))


def read(output: bytes) -> Manifest:
    """Read a manifest. Raises `CannotStart` where it is none."""
    try:
        return _MANIFEST.decode(output)
    except msgspec.DecodeError as error:
        raise CannotStart(f"the signer's program is of another version: {error}") from None
