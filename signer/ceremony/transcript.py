"""The record of a ceremony: numbered, timestamped lines, fit to be printed and signed by those who were there.

No secret and no private key is ever said. The last line binds those before it.
"""

from __future__ import annotations

import getpass
import hashlib
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from cryptography import x509
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.ceremony.plan import DAY, policies_of
from signer.issuance.issuer import extension
from signer.issuance.names import bounds_of
from signer.keystore.key import Ceiling, NameRange, OnToken, StoredKey, TokenPlace
from signer.keystore.mechanism import PrivateKey, algorithm_of

_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


class Transcript:
    """The lines of one ceremony. `now` gives seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lines: list[str] = []

    def say(self, sentence: str) -> None:
        """Record a step, with its number and time."""
        at = datetime.fromtimestamp(self._now(), UTC).strftime(_FORMAT)
        self._lines.append(f"{len(self._lines) + 1:3}  {at}  {_printable(sentence)}")

    def opened(self, verb: str, keys: str) -> None:
        """Who holds which ceremony where, with what."""
        self.say(f"Key ceremony: {verb}")
        self.say(f"Held by the user {_user()} on {platform.node() or 'this machine'}, in the key folder {keys}")
        programs = [f"Muster {_version('muster')}", f"cryptography {_version('cryptography')}"]
        self.say(f"With {', '.join(programs)}, {backend.openssl_version_text()}, Python {platform.python_version()}")

    def module(self, description: str) -> None:
        """Which PKCS#11 module and token hold keys."""
        self.say(f"Token: {description}")

    def key(self, name: str, private_key: PrivateKey, *, found: bool) -> None:
        """A key that was made, or that was there."""
        spki = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        done = "Found" if found else "Made"
        self.say(f"{done} the key {name}: {algorithm_of(private_key.public_key())}, {_where(private_key)}")
        self.say(f"  public key (SPKI), SHA-256 {hashlib.sha256(spki).hexdigest()}")

    def authority(self, key: StoredKey, *, found: bool = False) -> None:
        """A key with its certificate and ceiling."""
        self.key(key.name, key.private_key, found=found)
        self.certificate(key.name, key.certificate)
        self.ceiling(key.ceiling)

    def certificate(self, name: str, certificate: x509.Certificate) -> None:
        """A certificate's facts."""
        self.say(f"Certificate of {name}: subject {certificate.subject.rfc4514_string()}")
        self.say(f"  issuer {certificate.issuer.rfc4514_string()}, serial number {certificate.serial_number:x}")
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        self.say(f"  good from {begins.strftime(_FORMAT)} to {ends.strftime(_FORMAT)}")
        basic = extension(certificate, x509.BasicConstraints)
        if basic is not None and basic.ca:
            length = "any number of" if basic.path_length is None else f"at most {basic.path_length}"
            self.say(f"  an authority, with {length} authorities below it")
        bounds = bounds_of(certificate)
        for word, ranges in (("permitted", bounds.permitted), ("excluded", bounds.excluded)):
            if ranges:
                self.say(f"  names {word}: {_ranges(ranges)}")
        if policies_of(certificate):
            self.say(f"  policies: {', '.join(policies_of(certificate))}")
        self.say(f"  certificate, SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}")

    def ceiling(self, ceiling: Ceiling) -> None:
        """What a key may ever sign."""
        what = [each for each, may in (("leaves", ceiling.leaves), ("authorities", ceiling.authorities)) if may]
        if ceiling.max_validity:
            days = ceiling.max_validity // DAY
            self.say(f"  ceiling of the key: signs {' and '.join(what)}, each for {days} days at most")

    def closed(self) -> list[str]:
        """The whole record, with a last line that binds those before it."""
        digest = hashlib.sha256("\n".join(self._lines).encode()).hexdigest()
        count = len(self._lines)
        self.say(f"End. SHA-256 of lines 1 to {count}, joined by line feeds: {digest}")
        return list(self._lines)


def place_words(place: TokenPlace) -> str:
    """Where on which token a key is."""
    token = " ".join(
        [*([f"labelled {place.token}"] if place.token else []), *([f"serial {place.serial}"] if place.serial else [])]
    )
    return f"on the token {token}, label {place.label}, id {place.id.hex()}, through {place.module}"


def _where(private_key: PrivateKey) -> str:
    if not isinstance(private_key, OnToken):
        return "in software, sealed by the unlock secret"
    return " and ".join(place_words(each) for each in private_key.places)


def _ranges(ranges: tuple[NameRange, ...]) -> str:
    return ", ".join(f"{each.type}:{each.value}" for each in ranges)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(from a checkout)"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "without a name"


def _printable(sentence: str) -> str:
    """One line of a printed page: a subject must not draw lines of its own."""
    return "".join(each if each.isprintable() else "?" for each in sentence)
