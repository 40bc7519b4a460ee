"""Calls of the signer's offline verbs: keys and certificates of authorities are made there, and only described here.

The unlock secret goes by standard input, never by an argument or a variable that others could read. No private key
comes back.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.domain.authority import Authority, AuthorityManifest
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
    links: list[str] = []
    csr: str = ""
    transcript: list[str] = []


class Place(msgspec.Struct, frozen=True):
    """Where on a PKCS#11 token a key rests."""

    module: str = ""
    token: str = ""
    serial: str = ""
    label: str = ""


class Shown(msgspec.Struct, frozen=True):
    """What the signer tells of a key: `place` is None for one in software, `certificate` (PEM) empty while it waits.

    `places` are all tokens that have it, in the order in which they are asked, where they are several.
    """

    key: str
    kind: str = ""
    algorithm: str = ""
    spki_sha256: str = ""
    place: Place | None = None
    places: list[Place] = []
    certificate: str = ""
    chain: list[str] = []
    csr: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """An authority that somebody asks for. `days` None: as long as is usual for its kind.

    `permitted` and `excluded` are name constraints, `TYPE:VALUE`; `policies` dotted OIDs, `cps` their statement's URL.
    """

    name: str
    subject: str
    algorithm: str = "EC_prime256v1"
    path_length: int | None = None
    days: int | None = None
    leaf_days: int | None = None
    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    cps: str = ""
    scep: bool = False


_MANIFEST: Final = msgspec.json.Decoder(Manifest)
_SHOWN: Final = msgspec.json.Decoder(Shown)


def make_secret(folder: Folder) -> str:
    """Make the key store's unlock secret, 256 random bits, and keep it in the folder (0600)."""
    secret = secrets.token_urlsafe(32)
    write_private(folder.secret, secret.encode() + b"\n")
    return secret


def first(settings: Settings, secret: str, http: str) -> Manifest:
    """Make the first authorities, the RA and the listener's certificate, or find those of a start that was interrupted.

    `http` is the external address of plain HTTP, where the root publishes.

    Blocks for a second or two. Raises `CannotStart`.
    """
    folder = Folder(settings.data)
    arguments = ["first", "--keys", str(folder.keys), "--tls", str(folder.tls), *_host_flags(settings)]
    arguments += ["--crl-url", f"{http}/ca/root.crl", "--issuer-url", f"{http}/ca/root.crt"]
    arguments += ["--ocsp-url", f"{http}/ocsp/root"]
    return _read(run_once(settings, [*arguments, *token(settings)], secret))


def authority(
    settings: Settings, secret: str, declared: AuthorityDeclaration, parent: Authority | None
) -> AuthorityManifest:
    """Make an authority below `parent`, or a root, or find the one of its name.

    Blocks for a second at most, RSA keys for several. Raises `CannotStart`.
    """
    arguments = ["create-authority", "--keys", str(Folder(settings.data).keys), "--name", declared.name]
    arguments += ["--subject", declared.subject or f"CN={declared.name}", "--algorithm", declared.key_algorithm]
    arguments += ["--days", str(declared.days)]
    arguments += _under(parent)
    if declared.path_length is not None:
        arguments += ["--path-length", str(declared.path_length)]
    if declared.scep:
        arguments.append("--with-ra")
    return described(_read(run_once(settings, [*arguments, *token(settings)], secret)))


def create(settings: Settings, secret: str, wish: Wish, parent: Authority | None) -> Manifest:
    """Make an authority below `parent`, or a root. Blocks; RSA keys take seconds. Raises `CannotStart`."""
    arguments = [*_named("create-authority", settings, wish.name), *_wished(wish)]
    arguments += _under(parent)
    return _read(run_once(settings, [*arguments, *_ra(scep=wish.scep), *token(settings)], secret))


def request(settings: Settings, secret: str, wish: Wish) -> Manifest:
    """Make a key whose certificate somebody else will sign; its request is the manifest's `csr`. Blocks."""
    return _read(
        run_once(settings, [*_named("request", settings, wish.name), *_wished(wish), *token(settings)], secret)
    )


def install(settings: Settings, secret: str, key: str, certificates: Path, *, scep: bool) -> Manifest:
    """Give a key that waits its certificate and chain, PEM. Blocks. Raises `CannotStart` where it does not fit."""
    arguments = [*_named("install", settings, key), "--certificate", str(certificates), *_ra(scep=scep)]
    return _read(run_once(settings, [*arguments, *token(settings)], secret))


def take_over(settings: Settings, secret: str, key: str, files: Sequence[str], passphrase: str) -> Manifest:
    """Import a key with its certificates; `files` are the signer's own flags. Blocks. Raises `CannotStart`."""
    arguments = [*_named("import", settings, key), *files, *token(settings)]
    return _read(run_once(settings, arguments, secret, passphrase))


def renew(
    settings: Settings, secret: str, key: str, *, days: int | None, parent: Authority | None, known: bytes
) -> Manifest:
    """A new certificate for the same key; where somebody else signs it, the request for one. Blocks.

    `parent` is another authority than the one that signed it before. `known` is the certificate that shall be followed:
    where the key has another already, an earlier renewal ended before it was recorded, and that one is given.
    """
    arguments = [*_named("renew", settings, key), "--known", hashlib.sha256(known).hexdigest()]
    if days is not None:
        arguments += ["--days", str(days)]
    return _read(run_once(settings, [*arguments, *_under(parent)], secret))


def rekey(
    settings: Settings, secret: str, authority: Authority, new: str, *, algorithm: str | None, parent: Authority | None
) -> Manifest:
    """A new key for an authority's subject, named `new`, certified by `parent`, or as the old one was. Blocks."""
    arguments = [*_named("rekey", settings, authority.key), "--as", new]
    if algorithm is not None:
        arguments += ["--algorithm", algorithm]
    return _read(run_once(settings, [*arguments, *_under(parent), *token(settings)], secret))


def show(settings: Settings, secret: str, key: str) -> Shown:
    """Where a key rests, and what its certificate is in the key store. Blocks. Raises `CannotStart`."""
    # The key's file says where it rests; no token is asked.
    return _told(run_once(_without_pins(settings), _named("show", settings, key), secret))


def add_place(settings: Settings, secret: str, key: str, where: Place) -> Shown:
    """Let a key be served by one more token, which is proved to have it. Blocks. Raises `CannotStart`."""
    label = ["--label", where.label] if where.label else []
    return _told(run_once(settings, [*_named("add-place", settings, key), *_at(where), *label], secret))


def remove_place(settings: Settings, secret: str, key: str, where: Place) -> Shown:
    """Let a key be served by a token no longer, which is not asked. Blocks. Raises `CannotStart`."""
    return _told(run_once(_without_pins(settings), [*_named("remove-place", settings, key), *_at(where)], secret))


def renew_tls(settings: Settings, secret: str, issuer: str) -> None:
    """Make a new key and certificate for the HTTPS listener, in place of those in the folder. Blocks.

    `issuer` is the name of the key that signs it.
    """
    folder = Folder(settings.data)
    arguments = ["tls", "--keys", str(folder.keys), "--tls", str(folder.tls), "--issuer", issuer]
    arguments += _host_flags(settings)
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
        links=tuple(der(each) for each in made.links),
    )


def der(pem: str) -> bytes:
    """A certificate's DER."""
    return ssl.PEM_cert_to_DER_cert(pem)


def pem(certificate: bytes) -> str:
    """A certificate's PEM, as the signer writes it."""
    return ssl.DER_cert_to_PEM_cert(certificate)


def _host_flags(settings: Settings) -> list[str]:
    return [word for host in hosts(settings) for word in ("--host", host)]


def _named(verb: str, settings: Settings, name: str) -> list[str]:
    return [verb, "--keys", str(Folder(settings.data).keys), "--name", name]


def _wished(wish: Wish) -> list[str]:
    flags = ["--subject", wish.subject, "--algorithm", wish.algorithm]
    numbers = (("--days", wish.days), ("--leaf-days", wish.leaf_days), ("--path-length", wish.path_length))
    flags += [word for flag, number in numbers if number is not None for word in (flag, str(number))]
    lists = (("--permitted", wish.permitted), ("--excluded", wish.excluded), ("--policy", wish.policies))
    flags += [f"{flag}={value}" for flag, values in lists for value in values]
    return [*flags, "--cps", wish.cps] if wish.cps else flags


def _ra(*, scep: bool) -> list[str]:
    return ["--with-ra"] if scep else []


def _under(parent: Authority | None) -> list[str]:
    return [] if parent is None else ["--parent", parent.key, *_published(parent)]


def _published(parent: Authority) -> list[str]:
    """Where the parent's list, certificate and OCSP are found: it goes into the certificate that it signs."""
    lists = parent.crl_addresses(None)  # a certificate of an authority is in no partition
    addresses = (("--crl-url", lists), ("--issuer-url", parent.issuer_urls), ("--ocsp-url", parent.ocsp_urls))
    return [word for flag, urls in addresses for url in urls for word in (flag, url)]


def _without_pins(settings: Settings) -> Settings:
    return replace(settings, pin="", pin_file=None, pins_file=None)


def _at(where: Place) -> list[str]:
    flags = (("--module", where.module), ("--token", where.token), ("--token-serial", where.serial))
    return [word for flag, value in flags if value for word in (flag, value)]


def _told(output: bytes) -> Shown:
    try:
        return _SHOWN.decode(output)
    except msgspec.DecodeError as error:
        raise CannotStart(f"the signer's program is of another version: {error}") from None


def _read(output: bytes) -> Manifest:
    try:
        return _MANIFEST.decode(output)
    except msgspec.DecodeError as error:
        raise CannotStart(f"the signer's program is of another version: {error}") from None
