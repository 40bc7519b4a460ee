"""The way to tokens, if there are any: no code of PKCS#11 is loaded before the first key on a token is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signer.contract.messages import TokenFigures
from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import PrivateKey, PublicKey
from signer.keystore.pin import Logins
from signer.keystore.watch import Watch

if TYPE_CHECKING:
    from signer.keystore.pkcs11 import OpenToken, Tokens


class LazyTokens:
    """`pkcs11.Tokens`, opened when first asked (`key.TokenDoor`)."""

    def __init__(self, logins: Logins, *, writing: bool, watch: Watch | None = None) -> None:
        self._logins = logins
        self._writing = writing
        self._watch = watch
        self._tokens: Tokens | None = None

    def find(self, place: TokenPlace, public_key: PublicKey) -> PrivateKey:
        """The key at that place. Raises `KeyStoreError`."""
        return self._there().find(place, public_key)

    def find_any(self, places: Sequence[TokenPlace], public_key: PublicKey) -> PrivateKey:
        """The key that is at all of those places (`pkcs11.Tokens.find_any`). Raises `KeyStoreError`."""
        return self._there().find_any(places, public_key)

    @property
    def known(self) -> tuple[OpenToken, ...]:
        """The tokens that were asked for."""
        return () if self._tokens is None else self._tokens.known

    def figures(self) -> list[TokenFigures]:
        """What is told of each token that was asked for."""
        return [TokenFigures(each.name, each.state.value, each.openings, _told(each)) for each in self.known]

    @property
    def failovers(self) -> int:
        """Operations that another token of a key did than its first."""
        return 0 if self._tokens is None else self._tokens.failovers

    @property
    def changes(self) -> int:
        """Another number whenever what could be told of the tokens has changed: cheap to look at, for each frame."""
        return 0 if self._tokens is None else sum(1 + each.changes for each in self.known) + self.failovers

    def generate(self, where: TokenPlace, algorithm: str, *, decrypts: bool = False) -> PrivateKey:
        """Make a key on a token (`pkcs11.Tokens.generate`). Raises `KeyStoreError`."""
        return self._there().generate(where, algorithm, decrypts=decrypts)

    def take_in(self, where: TokenPlace, private_key: PrivateKey) -> PrivateKey:
        """Write a key to a token (`pkcs11.Tokens.take_in`). Raises `KeyStoreError`."""
        return self._there().take_in(where, private_key)

    def described(self, where: TokenPlace) -> str:
        """A token and its module, for a transcript. Raises `KeyStoreError`."""
        return self._there().described(where)

    def _there(self) -> Tokens:
        if self._tokens is None:
            self._logins.need()
            try:
                from signer.keystore.pkcs11 import Tokens
            except ModuleNotFoundError:
                sentence = "a key rests on a token, and the package python-pkcs11 is not installed"
                raise KeyStoreError(StoreFailure.UNSUPPORTED, sentence) from None
            self._tokens = Tokens(self._logins, writing=self._writing, watch=self._watch)
        return self._tokens


def _told(token: OpenToken) -> dict[str, int]:
    return {**{failure.value: count for failure, count in token.failures.items()}, "slow": token.slow}


def tokens_of(
    folder: Path,
    kek: bytes,
    pins: Mapping[str, str],
    *,
    files: Sequence[str] = (),
    writing: bool = False,
    watch: Watch | None = None,
) -> LazyTokens:
    """The tokens that the keys of a folder rest on. `writing` is for ceremonies, `watch` and `files` for workers.

    `files` of PINs are read again whenever a token is opened.
    """
    return LazyTokens(Logins(folder, kek, pins, files), writing=writing, watch=watch)
