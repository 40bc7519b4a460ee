"""`muster doctor` on a folder that a gateway has made: whole, and tampered with."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
from pathlib import Path

from tests.doubles.gateway import command, environment, muster, running_gateway


def test_a_chain_that_was_tampered_with_is_found_and_ctrl_c_is_one_sentence(tmp_path: Path) -> None:
    """D17."""
    folder = tmp_path / "data"
    with running_gateway(folder):
        beside = muster("doctor", "--audit", "--data", str(folder))
    words = command("doctor", "--signer", "--data", str(folder))
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment(), stdout=pipe, stderr=pipe, text=True) as measuring:
        assert measuring.stdout is not None
        measuring.stdout.readline()  # it has begun, and takes seconds
        measuring.send_signal(signal.SIGINT)
        _, said = measuring.communicate(timeout=60)
    assert (measuring.returncode, said.count("\n")) == (130, 1), said
    assert (beside.returncode, beside.stderr) == (0, "")
    assert "the chain is whole" in beside.stdout
    with contextlib.closing(sqlite3.connect(folder / "store.sqlite")) as database, database:
        database.execute("UPDATE audit SET actor = 'somebody else' WHERE position = 1")
    tampered = muster("doctor", "--audit", "--data", str(folder))
    assert tampered.returncode == 1
    assert "broken at event 1" in tampered.stdout
    nowhere = muster("doctor", "--audit", "--data", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 2
    assert nowhere.stderr.count("\n") == 1
