"""The files that HTTPS shows itself with: which pair of chain and key speaks for which name.

Files are read and looked at, nothing is shown here. A key is never parsed outside OpenSSL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.serve.refusal import CannotStart
from gateway.serve.tls import require_pair

CERTIFICATE: Final = ".crt"
KEY: Final = ".key"

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
"""How files looked: modification time, inode and size of each; zeros for one that is not there."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain and its key as their files had them, PEM. `names` are lower case, as a certificate writes them.

    What is shown is kept: whom clients are believed by changes at any time, the midst of a change of files too.
    """

    chain: bytes
    key: bytes = field(repr=False)
    names: tuple[str, ...]
    kind: str
    begins: datetime

    @contextmanager
    def files(self) -> Iterator[tuple[Path, Path]]:
        """Chain and key in memory, by paths that OpenSSL can read: Python has it read nothing but files."""
        with _held(self.chain) as chain, _held(self.key) as key:
            yield chain, key


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown: `default` where no name matches; `by_name` one pair of each key type for a name."""

    default: Pair
    by_name: Mapping[str, tuple[Pair, ...]]

    def groups(self) -> frozenset[tuple[Pair, ...]]:
        """Everything that needs a context of its own."""
        return frozenset({(self.default,), *self.by_name.values()})

    def group(self, name: str | None) -> tuple[Pair, ...]:
        """The pairs for a name that a client asked for: the name itself, else a wildcard for its first label."""
        if name:
            asked = name.lower().rstrip(".")
            # RFC 6125, 6.4.3: a wildcard stands for the whole of the left-most label, and for no other.
            found = self.by_name.get(asked) or self.by_name.get("*." + asked.partition(".")[2])
            if found:
                return found
        return (self.default,)


def stamp(chain: Path, key: Path, folder: Path | None) -> Stamp:
    """How the default's files and those of `folder` look now."""
    return tuple(_look(each) for pair in ((chain, key), *_pairs_in(folder)) for each in pair)


def read(chain: Path, key: Path, folder: Path | None) -> Shown:
    """Read the default's files and every NAME.crt with its NAME.key in `folder`.

    Raises:
        CannotStart: for the first pair that does not make a server, naming the file.
    """
    return arrange(_pair(chain, key, named=False), read_folder(folder))


def read_folder(folder: Path | None) -> list[Pair]:
    """The pairs of `folder` alone. Raises `CannotStart`."""
    return [_pair(*each, named=True) for each in _pairs_in(folder, strict=True)]


def arrange(default: Pair, pairs: Sequence[Pair]) -> Shown:
    """Who speaks for which name: of each key type the certificate that began last; the default's own names too."""
    by_name: dict[str, dict[str, Pair]] = {}
    for pair in (default, *pairs):
        for name in pair.names:
            kinds = by_name.setdefault(name, {})
            rival = kinds.get(pair.kind)
            if rival is None or rival is default or rival.begins < pair.begins:
                kinds[pair.kind] = pair
    return Shown(default, {name: tuple(kinds[kind] for kind in sorted(kinds)) for name, kinds in by_name.items()})


def _pair(chain: Path, key: Path, *, named: bool) -> Pair:
    require_pair(chain, key, folder=named)
    try:
        read, secret = chain.read_bytes(), key.read_bytes()
        certificate = x509.load_pem_x509_certificate(read)
        found = Pair(read, secret, _names(certificate), _kind(certificate), certificate.not_valid_before_utc)
    except (ValueError, OSError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as bad:
        raise CannotStart(f"HTTPS cannot use {chain}: its first certificate cannot be read: {bad}") from None
    if named and not found.names:
        raise CannotStart(f"HTTPS cannot use {chain}: it has no DNS name that a client could ask for; see tls.folder")
    return found


@contextmanager
def _held(data: bytes) -> Iterator[Path]:
    descriptor = os.memfd_create("muster-tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower().rstrip(".") for name in found.get_values_for_type(x509.DNSName))


def _kind(certificate: x509.Certificate) -> str:
    # OpenSSL keeps one chain for each of these in a context, whatever the curve or the length.
    match certificate.public_key():
        case ec.EllipticCurvePublicKey():
            return "ecdsa"
        case rsa.RSAPublicKey():
            return "rsa"
        case other:
            return type(other).__name__


def _pairs_in(folder: Path | None, *, strict: bool = False) -> list[tuple[Path, Path]]:
    if folder is None:
        return []
    try:
        found = sorted(
            each for each in folder.iterdir() if each.suffix == CERTIFICATE and not each.name.startswith(".")
        )
    except OSError as error:
        if strict:
            raise CannotStart(f"HTTPS cannot use {folder}: {error.strerror}; see tls.folder") from None
        return []
    return [(each, each.with_suffix(KEY)) for each in found]


def _look(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
