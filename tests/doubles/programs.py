"""Running other people's programs: strongSwan's pki, curl, openssl."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

END = "-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class Ran:
    """How a program ended; `output` is bytes, `said` what it wrote on standard error."""

    status: int
    output: bytes
    said: str

    @property
    def text(self) -> str:
        return self.output.decode()


def installed(*names: str) -> None:
    """Skip the test where a program is missing; in CI that is a failure."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        lacking(f"not installed: {', '.join(missing)}")


def lacking(reason: str) -> NoReturn:
    """Skip the test for want of something that CI has to have; there it fails."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: object, folder: Path, given: bytes = b"", status: int | None = 0) -> Ran:
    """Run a program in `folder`; `status` is how it must end, None where any end will do."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, input=given, capture_output=True, timeout=120, check=False)
    ran = Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
    assert status is None or ran.status == status, f"{words}: {ran}"
    return ran


def certificates(pem: str) -> list[str]:
    """The certificates of a PEM text, one by one."""
    return [part[part.index("-----BEGIN") :] + END for part in pem.split(END) if "-----BEGIN" in part]


def each(flag: str, values: Sequence[object]) -> list[object]:
    """`flag value flag value ...`."""
    return [word for value in values for word in (flag, value)]
