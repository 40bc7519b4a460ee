"""PKCS#11 modules in this process: each file is loaded once. No session is opened here, and no PIN is known.

python-pkcs11 initialises a module without locking (`pkcs11`): one thread alone may call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pkcs11
from pkcs11 import PKCS11Error
from pkcs11.types import Token

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace


class Module:
    """A PKCS#11 module in this process. `generation` grows when it begins again, which ends all sessions on its tokens.

    Handles are numbers that begin anew with it: one of an older generation may be another key's.
    """

    def __init__(self, path: str) -> None:
        # A bare name would be searched for along paths that others may set.
        if not Path(path).is_absolute() or not Path(path).is_file():
            sentence = f"there is no PKCS#11 module {path} (an absolute path is needed)"
            raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence)
        try:
            self._library = pkcs11.lib(path)
        except PKCS11Error as error:
            sentence = f"the PKCS#11 module {path} does not load: {code(error)}"
            raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence) from None
        self.generation = 0

    def token(self, where: TokenPlace) -> Token:
        """The one token of that label and serial number. Raises `PKCS11Error`."""
        try:
            return self._chosen(where)
        except PKCS11Error:
            # A module's list of slots is made when it is initialised (SoftHSM): a token that came back is seen by a
            # module that begins again.
            self.generation += 1
            self._library.reinitialize()
            return self._chosen(where)

    def _chosen(self, where: TokenPlace) -> Token:
        return self._library.get_token(token_label=where.token or None, token_serial=where.serial.encode() or None)


_modules: Final[dict[str, Module]] = {}  # a module is loaded once in a process, whoever asks


def module(path: str) -> Module:
    """The module in that file. Raises `KeyStoreError` (UNAVAILABLE)."""
    found = _modules.get(path)
    if found is None:
        found = _modules[path] = Module(path)
    return found


def code(error: PKCS11Error) -> str:
    """An error of a module in words: the code's name, and what else is known."""
    return " ".join((type(error).__name__, str(error))).strip()
