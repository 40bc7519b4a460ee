"""A real token behind a real module that hangs, crashes or fails when a test says so (`trouble.c`)."""

import shutil
import subprocess
from pathlib import Path

from tests.doubles.programs import installed
from tests.hsm.kit import MODULE


class Trouble:
    """The module, compiled for this test, in front of a SoftHSM2 of its own: no other module of the process knows it."""

    def __init__(self, folder: Path) -> None:
        installed("gcc")
        folder.mkdir(exist_ok=True)
        real = folder / "real.so"
        shutil.copy(MODULE, real)
        self.module = str(folder / "trouble.so")
        self.file = folder / "trouble"
        source = str(Path(__file__).with_name("trouble.c"))
        command = ["gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", f'-DREAL="{real}"', "-o", self.module, source]
        subprocess.run(command, check=True, capture_output=True)

    def begin(self, what: str) -> None:
        aside = self.file.with_suffix(".new")
        aside.write_text(what)
        aside.rename(self.file)

    def end(self) -> None:
        self.file.unlink(missing_ok=True)
