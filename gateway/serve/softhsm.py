"""A SoftHSM2 token of the data folder's own, for trying what tokens are like: made once, found by itself from then on.

Everything of it is in `softhsm/`: the tokens, the module's configuration, two PINs. It protects no better than a file
does. The module is never loaded here: the signer's program makes the token, and its processes alone know where it is.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.serve import signer_process
from gateway.serve.folder import Folder, write_private
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings

LABEL: Final = "muster"
MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",  # Debian, Ubuntu, Arch
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",  # Fedora, RHEL
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
_PIN_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Place:
    """The files of a folder's token."""

    path: Path

    @property
    def pin(self) -> Path:
        """The user's PIN. It is there when the token is."""
        return self.path / "pin"

    @property
    def waiting(self) -> Path:
        """The PIN while the token is being made."""
        return self.path / "pin.new"

    @property
    def officer(self) -> Path:
        """The security officer's PIN, with which a locked token is opened again."""
        return self.path / "so-pin"

    @property
    def tokens(self) -> Path:
        """SoftHSM2's own folder."""
        return self.path / "tokens"

    @property
    def configuration(self) -> Path:
        """What SOFTHSM2_CONF names."""
        return self.path / "softhsm2.conf"


def place(settings: Settings) -> Place:
    """Where a data folder keeps its token."""
    return Place(Folder(settings.data).softhsm)


def find_module() -> Path:
    """The module on this machine. Raises `CannotStart`, naming the package, where there is none."""
    for each in MODULES:
        if Path(each).is_file():
            return Path(each)
    raise CannotStart(
        "there is no SoftHSM2 on this machine (libsofthsm2.so): apt-get install softhsm2, or dnf install softhsm"
    )


def adopted(settings: Settings) -> Settings:
    """The settings, with the folder's own token where it has one and nobody named another. Raises `CannotStart`."""
    here = place(settings)
    if settings.token or settings.pin or settings.pin_file is not None or not here.pin.is_file():
        return settings
    _configure(here)  # the folder may have been moved
    return replace(settings, pkcs11_module=find_module(), token=LABEL, pin_file=here.pin)


def check(settings: Settings) -> None:
    """Raise `CannotStart` where no token could be made. Changes nothing."""
    if settings.token and settings.pin_file != place(settings).pin:
        raise CannotStart("--softhsm makes a token of its own, and signer.token names another: leave one of them out")
    find_module()


def make(settings: Settings) -> Settings:
    """Make the folder's token, or find it; gives the settings with it. Blocks. Raises `CannotStart`."""
    check(settings)
    here = place(settings)
    if here.pin.is_file():
        return adopted(settings)
    module = find_module()
    try:
        _clear(here)
        here.tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
        here.path.chmod(0o700)
        _configure(here)
        # Under its own name it would say that the token is there.
        write_private(here.waiting, secrets.token_hex(_PIN_BYTES).encode() + b"\n")
        write_private(here.officer, secrets.token_hex(_PIN_BYTES).encode() + b"\n")
    except OSError as error:
        raise CannotStart(f"{here.path}: {error.strerror}; choose another folder with --data") from None
    words = ["init-token", "--module", str(module), "--label", LABEL]
    pins = ["--pin", f"file:{here.waiting}", "--so-pin", f"file:{here.officer}"]
    signer_process.run_beside(replace(settings, pin="", pin_file=here.pin), [*words, *pins])
    here.waiting.replace(here.pin)
    return adopted(settings)


def _clear(here: Place) -> None:
    """Take away what an interrupted making left; a token that was in use stays, whoever lost its PIN."""
    if here.waiting.is_file():
        shutil.rmtree(here.tokens, ignore_errors=True)
    elif here.tokens.is_dir() and any(here.tokens.iterdir()):
        raise CannotStart(f"{here.pin} is missing, and {here.tokens} holds a token: restore the file from a backup")


def _configure(here: Place) -> None:
    text = f"directories.tokendir = {here.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n".encode()
    if not here.configuration.is_file() or here.configuration.read_bytes() != text:
        write_private(here.configuration, text)
