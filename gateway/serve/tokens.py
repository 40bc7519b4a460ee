"""What PKCS#11 tokens this machine has, as the signer's program tells it. No module is loaded in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.serve import folder, signer_process, softhsm
from gateway.serve.folder import Folder, State
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings

# Where modules are installed by packages; what is not there is passed over.
USUAL: Final = (
    *softhsm.MODULES,
    "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so",
    "/usr/lib64/opensc-pkcs11.so",
    "/usr/lib/x86_64-linux-gnu/libykcs11.so",
    "/usr/lib64/libykcs11.so",
    "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
)
_STATES: Final = {
    "user_pin_count_low": "a wrong PIN was given before",
    "user_pin_final_try": "the next wrong PIN locks it",
    "user_pin_locked": "its PIN is locked",
    "user_pin_to_be_changed": "its PIN must be changed",
    "write_protected": "write-protected",
    "error_state": "in its error state",
}


class Token(msgspec.Struct, frozen=True):
    """One token. `keys` counts its private keys, None if its PIN is not known here; `trouble` says why not."""

    label: str
    serial: str
    model: str
    flags: list[str]
    keys: int | None = None
    trouble: str = ""

    @property
    def states(self) -> list[str]:
        """Its flags, where they say something that people must know."""
        begun = "initialised" if "token_initialized" in self.flags else "not initialised"
        without = (
            ["no PIN yet"] if "token_initialized" in self.flags and "user_pin_initialized" not in self.flags else []
        )
        return [begun, *without, *(said for flag, said in _STATES.items() if flag in self.flags)]


class Module(msgspec.Struct, frozen=True):
    """One module with its tokens, or the reason why it tells nothing."""

    module: str
    description: str = ""
    version: str = ""
    tokens: list[Token] = []
    trouble: str = ""


_MODULE: Final = msgspec.json.Decoder(Module)


def seen(settings: Settings, modules: Sequence[str]) -> Iterator[Module]:
    """The modules that are named, or that of the settings and those in the usual places. Blocks a moment for each.

    Each in a process of its own: one that crashes takes no other with it.
    """
    configured = [str(settings.pkcs11_module)] if settings.pkcs11_module else []
    named = [str(Path(each).absolute()) for each in modules]
    usual = [each for each in USUAL if Path(each).is_file()]
    for each in dict.fromkeys(named or [*configured, *usual]):
        try:
            yield _one(settings, each)
        except CannotStart as trouble:
            yield Module(each, trouble=str(trouble))


def _one(settings: Settings, module: str) -> Module:
    words = ["tokens", "--module", module]
    if module != str(settings.pkcs11_module) or not signer_process.pin_source(settings):
        return _MODULE.decode(signer_process.run_beside(settings, words))
    if folder.inspect(settings) is not State.COMPLETE:  # nowhere to remember that a PIN was refused: none is tried
        return _MODULE.decode(signer_process.run_beside(settings, words))
    secret = folder.require_complete(settings)
    words += ["--keys", str(Folder(settings.data).keys)]
    return _MODULE.decode(signer_process.run_once(settings, words, secret))
