"""Real SoftHSM2 tokens in a folder of the test's own, and key stores that rest on them. No mock of a token."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pkcs11

from signer.ceremony import Ceremony, Plan
from signer.keystore.key import KeyKind, StoredKey, TokenPlace
from signer.keystore.pin import Logins
from signer.keystore.pkcs11 import Tokens
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.signer.kit import COMMON_NAME, SECRET

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
MODULE = next((each for each in MODULES if Path(each).exists()), MODULES[0])
PIN = "2468-pin"
ROOT = Path(__file__).parents[2]


class SoftHsm:
    """A folder of tokens. SOFTHSM2_CONF names it while the test runs: the module reads it when it begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    def make(self, label: str, pin: str = PIN) -> None:
        self._do("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin)

    def change_pin(self, label: str, old: str, new: str) -> None:
        tool = ("pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", old)
        self._do(*tool, "--change-pin", "--new-pin", new)

    def remove(self) -> None:
        """Take all tokens away."""
        self.tokens.rename(self.folder / "away")
        self.tokens.mkdir()

    def bring_back(self) -> None:
        shutil.rmtree(self.tokens)
        (self.folder / "away").rename(self.tokens)

    def _do(self, *command: str) -> None:
        environment = {**os.environ, "SOFTHSM2_CONF": str(self.configuration)}
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def place(label: str, token: str = "hsm") -> TokenPlace:
    return TokenPlace(MODULE, token, "", label, b"")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A key folder, with tokens that are opened as a ceremony opens them."""

    def __init__(self, folder: Path, pins: dict[str, str] | None = None) -> None:
        create(folder, SECRET)
        self.folder = folder
        self.kek = unlock(folder, SECRET)
        self.clock = Clock()
        self.pins = {"": PIN} if pins is None else pins
        self.tokens = Tokens(Logins(folder, self.kek, self.pins), writing=True, clock=self.clock)
        self.keys = SoftKeyStore(folder, self.kek, self.tokens)

    def again(self, pins: dict[str, str] | None = None) -> SoftKeyStore:
        """The same folder, opened as a worker opens it, with nothing remembered."""
        return SoftKeyStore(self.folder, self.kek, self.fresh_tokens(pins))

    def fresh_tokens(self, pins: dict[str, str] | None = None) -> Tokens:
        return Tokens(Logins(self.folder, self.kek, pins or self.pins), clock=self.clock)

    def ceremony(self, token: str = "hsm") -> Ceremony:
        def make(name: str, algorithm: str, kind: KeyKind):
            return self.tokens.generate(place(name, token), algorithm, decrypts=kind is KeyKind.RA)

        return Ceremony(self.keys, now=int(time.time()), make=make)

    def root(self, algorithm: str = "EC_prime256v1") -> StoredKey:
        return self.ceremony().authority(Plan("root", [(COMMON_NAME, "Root")], algorithm, None, 1, 7300))

    def issuing(self, algorithm: str = "EC_prime256v1", name: str = "issuing") -> StoredKey:
        plan = Plan(name, [(COMMON_NAME, "Issuing")], algorithm, self.root(), 0, 3650)
        return self.ceremony().authority(plan)


def run(*arguments: str, stdin: bytes = SECRET + b"\n", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "signer", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        cwd=ROOT,
        timeout=60,
        env={**os.environ, **environment},
    )


def kill_sessions(session: "pkcs11.Session", module: str = MODULE) -> None:
    """C_CloseAllSessions on the slot of a session: what a token does that was reset. It ends the login as well."""
    import ctypes

    library = ctypes.CDLL(module)
    assert library.C_CloseAllSessions(ctypes.c_ulong(session.token.slot.slot_id)) == 0
