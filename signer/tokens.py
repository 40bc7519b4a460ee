"""PKCS#11 tokens, before any key is on them: what a module has (`tokens`), and a new token on SoftHSM2 (`init-token`).

No module but the one that was named is loaded, and no PIN is tried without being given: a wrong one counts. Standard
output is JSON, standard error sentences; no secret is ever an argument.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from signer.hardening import harden
from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.pin import Logins, read_pins
from signer.keystore.secret import read_secret
from signer.keystore.softkey import unlock

if TYPE_CHECKING:
    import pkcs11
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - a class, whatever its name looks like

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it

_LABEL: Final = 32  # octets of a token's label, filled up with blanks (PKCS#11, C_InitToken)


class TokenSeen(msgspec.Struct, frozen=True):
    """A token of a module. `flags` are PKCS#11's, in lower case; `keys` counts its private keys, None if not asked.

    `trouble` says why they could not be counted.
    """

    label: str
    serial: str
    model: str
    maker: str
    flags: list[str]
    keys: int | None = None
    trouble: str = ""


class ModuleSeen(msgspec.Struct, frozen=True):
    """A PKCS#11 module and its tokens."""

    module: str
    description: str
    version: str
    tokens: list[TokenSeen]


def add_verbs(verbs: Verbs) -> None:
    """Add both verbs to a command line."""
    seen = verbs.add_parser("tokens", help="name the tokens of a PKCS#11 module")
    seen.add_argument("--module", required=True, help="the module's file")
    seen.add_argument("--keys", type=Path, help="a folder of keys, whose refused PINs are not tried again")
    seen.add_argument("--pin", action="append", default=[], metavar="SOURCE", help="as elsewhere: keys are counted")
    made = verbs.add_parser("init-token", help="make a token on a module's free slot; SoftHSM2 has one always")
    made.add_argument("--module", required=True, help="the module's file")
    made.add_argument("--label", required=True, help="the new token's label, 1 to 32 octets")
    made.add_argument("--pin", action="append", default=[], metavar="SOURCE", help="the PIN that it will have")
    made.add_argument("--so-pin", action="append", default=[], metavar="SOURCE", help="its security officer's PIN")


def main(asked: argparse.Namespace) -> int:
    """Do what the command line asks. Gives the exit status: 2 with one sentence if it fails."""
    harden(follow_parent=False)
    try:
        answer = _initialised(asked) if asked.verb == "init-token" else _seen(asked)
    except (KeyStoreError, OSError) as error:
        print(f"signer: {error}", file=sys.stderr)  # noqa: T201 - a sentence for the operator
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


def _seen(asked: argparse.Namespace) -> ModuleSeen:
    library = _library(asked.module)
    logins = None
    if asked.keys is not None and asked.pin:
        kek = unlock(asked.keys, read_secret(sys.stdin.fileno()))
        logins = Logins(asked.keys, kek, read_pins(asked.pin, sys.stdin.fileno()))
    tokens = [_token(each, logins) for each in library.get_tokens()]
    major, minor = library.library_version
    return ModuleSeen(asked.module, library.library_description.strip(), f"{major}.{minor}", tokens)


def _token(token: pkcs11.Token, logins: Logins | None) -> TokenSeen:
    from pkcs11 import TokenFlag

    flags = [each.name.lower() for each in TokenFlag if each.name and token.flags & each]
    seen = TokenSeen(
        token.label, token.serial.decode(errors="replace").strip(), token.model, token.manufacturer_id, flags
    )
    if logins is None or not token.flags & TokenFlag.USER_PIN_INITIALIZED:
        return seen
    if token.flags & (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_LOCKED):
        return msgspec.structs.replace(seen, trouble="its PIN is locked, or the next wrong one locks it: not tried")
    try:
        return msgspec.structs.replace(seen, keys=_count(token, logins))
    except KeyStoreError as error:
        return msgspec.structs.replace(seen, trouble=str(error))


def _count(token: pkcs11.Token, logins: Logins) -> int:
    from pkcs11 import Attribute, ObjectClass, PKCS11Error

    try:
        with logins.turn(), logins.attempt(token.serial, pin := logins.pin(token.label)):
            try:
                session = token.open(user_pin=pin)
            except PKCS11Error as error:
                sentence = f"the token {token.label} refuses the PIN: {type(error).__name__}"
                raise KeyStoreError(StoreFailure.LOCKED, sentence) from None
        with session:
            return len(list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})))
    except PKCS11Error as error:
        sentence = f"the keys of {token.label} cannot be counted: {type(error).__name__}"
        raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence) from None


def _initialised(asked: argparse.Namespace) -> ModuleSeen:
    from pkcs11 import PKCS11Error, TokenFlag

    label = asked.label.encode()
    if not 0 < len(label) <= _LABEL:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"a token's label has 1 to {_LABEL} octets")
    pin = read_pins(asked.pin, sys.stdin.fileno()).get("")
    officer = read_pins(asked.so_pin, sys.stdin.fileno()).get("")
    if not pin or not officer:
        raise KeyStoreError(StoreFailure.LOCKED, "a new token needs --pin and --so-pin")
    library = _library(asked.module)
    if any(each.label == asked.label for each in library.get_tokens()):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"there is a token labelled {asked.label} already")
    try:
        free = [each for each in library.get_slots() if not _flags(each) & TokenFlag.TOKEN_INITIALIZED]
        if not free:
            raise KeyStoreError(StoreFailure.UNAVAILABLE, f"{asked.module} has no slot for a new token")
        _call_init_token(asked.module, free[0].slot_id, officer.encode(), label.ljust(_LABEL))
        library.reinitialize()  # a new token moves to another slot
        token = library.get_token(token_label=asked.label)
        with token.open(rw=True, so_pin=officer) as session:
            session.init_pin(pin)
    except PKCS11Error as error:
        sentence = f"the token {asked.label} cannot be made: {type(error).__name__}"
        raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence) from None
    return _seen(argparse.Namespace(module=asked.module, keys=None, pin=[]))


def _flags(slot: pkcs11.Slot) -> int:
    import pkcs11

    try:
        return int(slot.get_token().flags)
    except pkcs11.PKCS11Error:
        return int(pkcs11.TokenFlag.TOKEN_INITIALIZED)  # a reader without a card is no place for a token


def _call_init_token(module: str, slot: int, officer: bytes, label: bytes) -> None:
    """C_InitToken, which python-pkcs11 does not offer; the module is in this process already."""
    status = ctypes.CDLL(module).C_InitToken(ctypes.c_ulong(slot), officer, ctypes.c_ulong(len(officer)), label)
    if status != 0:
        raise KeyStoreError(StoreFailure.UNAVAILABLE, f"the module refuses to make a token: CKR 0x{status:x}")


def _library(path: str) -> Library:
    try:
        import pkcs11
    except ModuleNotFoundError:
        sentence = "the package python-pkcs11 is not installed"
        raise KeyStoreError(StoreFailure.UNSUPPORTED, sentence) from None
    if not Path(path).is_absolute() or not Path(path).is_file():
        raise KeyStoreError(StoreFailure.UNAVAILABLE, f"there is no PKCS#11 module {path} (an absolute path is needed)")
    try:
        return pkcs11.lib(path)
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        sentence = f"the PKCS#11 module {path} does not load: {type(error).__name__} {error}".rstrip()
        raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence) from None
