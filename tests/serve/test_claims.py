"""Claims of a machine's workers: one has a piece of work, and it is gone with that one (A61)."""

import os
import subprocess
import sys

from gateway.serve.workers.claims import LINGER, Claims

OTHER = """
import sys
from pathlib import Path
from gateway.serve.workers.claims import Claims
sys.exit(0 if Claims(Path(sys.argv[1])).take(sys.argv[2]) else 3)
"""


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def another_gets(file, name):
    """Whether another process gets the claim; with its end it is free again."""
    ended = subprocess.run([sys.executable, "-c", OTHER, str(file), name], cwd=os.getcwd(), check=False)
    assert ended.returncode in {0, 3}
    return ended.returncode == 0


def test_a_claim_is_one_process_s_until_it_gives_it_back(tmp_path):
    claims = Claims(tmp_path / "claims")
    assert claims.take("validation 1")
    assert not another_gets(tmp_path / "claims", "validation 1")
    assert another_gets(tmp_path / "claims", "validation 2")
    claims.give_back("validation 1", ended=False)
    assert another_gets(tmp_path / "claims", "validation 1")


def test_what_has_ended_is_nobody_elses_for_a_while(tmp_path):
    """A61: who looked before it ended must not begin again."""
    clock = Clock()
    claims = Claims(tmp_path / "claims", clock)
    assert claims.take("validation 1")
    claims.give_back("validation 1", ended=True)
    clock.now += LINGER / 2
    assert claims.take("validation 2")
    assert not another_gets(tmp_path / "claims", "validation 1")
    clock.now += LINGER
    assert claims.take("validation 3")
    assert another_gets(tmp_path / "claims", "validation 1")
    assert not another_gets(tmp_path / "claims", "validation 2")


def test_who_takes_up_again_what_it_has_ended_keeps_it(tmp_path):
    clock = Clock()
    claims = Claims(tmp_path / "claims", clock)
    assert claims.take("validation 1")
    claims.give_back("validation 1", ended=True)
    assert claims.take("validation 1")
    clock.now += 2 * LINGER
    assert claims.take("validation 2")
    assert not another_gets(tmp_path / "claims", "validation 1")
