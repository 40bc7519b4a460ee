"""Calls of the signer's offline verbs: keys and certificates of authorities are made there, and only described here.

The unlock secret goes by standard input, never by an argument or a variable that others could read. No private key
comes back.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.domain.authority import AuthorityManifest
from gateway.domain.declaration.shape import AuthorityDeclaration
from gateway.serve.folder import Folder, write_private
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.signer_process import run_once, token


class Made(msgspec.Struct, frozen=True):
    """A key that the signer holds by this name, and its certificate, PEM.

    `chain` runs from an authority's own certificate up to the root, both included; an RA has none.
    """

    key: str
    certificate: str
    chain: list[str] = []


class Manifest(msgspec.Struct, frozen=True):
    """What a ceremony made. `issuing` is the authority that was asked for, the root itself where that was one."""

    root: Made
    issuing: Made
    ra: Made | None = None


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
    arguments = ["first", "--keys", str(folder.keys), "--tls", str(folder.tls), *_host_flags(settings)]
    return _read(run_once(settings, [*arguments, *token(settings)], secret))


def authority(settings: Settings, secret: str, declared: AuthorityDeclaration, parent: str | None) -> AuthorityManifest:
    """Make an authority, or find the one of its name. `parent` is the name of its parent's key.

    Blocks for a second at most, RSA keys for several. Raises `CannotStart`.
    """
    arguments = ["create-authority", "--keys", str(Folder(settings.data).keys), "--name", declared.name]
    arguments += ["--subject", declared.subject or f"CN={declared.name}", "--algorithm", declared.key_algorithm]
    arguments += ["--days", str(declared.days)]
    if parent is not None:
        arguments += ["--parent", parent]
    if declared.path_length is not None:
        arguments += ["--path-length", str(declared.path_length)]
    if declared.scep:
        arguments.append("--with-ra")
    return described(_read(run_once(settings, [*arguments, *token(settings)], secret)))


def renew_tls(settings: Settings, secret: str) -> None:
    """Make a new key and certificate for the HTTPS listener, in place of those in the folder. Blocks."""
    folder = Folder(settings.data)
    arguments = ["tls", "--keys", str(folder.keys), "--tls", str(folder.tls), *_host_flags(settings)]
    run_once(settings, arguments, secret)


def hosts(settings: Settings) -> tuple[str, ...]:
    """The names, and addresses, that the listener's certificate has beside those of the loopback: how clients come."""
    external = urlsplit(settings.external_url).hostname
    return (socket.gethostname().lower(), *([external] if external else []))


def described(made: Manifest) -> AuthorityManifest:
    """The authority that a ceremony made, in the product's words."""
    return AuthorityManifest(
        key=made.issuing.key,
        chain=tuple(der(each) for each in made.issuing.chain),
        ra_key=None if made.ra is None else made.ra.key,
        ra_certificate=None if made.ra is None else der(made.ra.certificate),
    )


def der(pem: str) -> bytes:
    """A certificate's DER."""
    return ssl.PEM_cert_to_DER_cert(pem)


def _host_flags(settings: Settings) -> list[str]:
    return [word for host in hosts(settings) for word in ("--host", host)]


def _read(output: bytes) -> Manifest:
    try:
        return _MANIFEST.decode(output)
    except msgspec.DecodeError as error:
        raise CannotStart(f"the signer's program is of another version: {error}") from None
