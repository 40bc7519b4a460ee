"""What `muster doctor --journal` says of a real gateway: after killed workers, of an older store, of a gap in the journal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conformance.test_signer_failures import Outcomes, client, enroll_until, some_workers
from tests.doubles.gateway import ROOT, muster, running_gateway

pytestmark = pytest.mark.conformance

CEREMONIES = {"hold-ceremony", "certify-listener"}


def test_after_workers_were_killed_under_load_exactly_what_was_lost_is_named(tmp_path: Path):
    folder = tmp_path / "data"
    with running_gateway(folder) as gateway:
        outcomes, ending = Outcomes(), threading.Event()
        threads = [threading.Thread(target=enroll_until, args=(gateway, ending, outcomes)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.4)
            os.kill(some_workers(gateway)[0], signal.SIGKILL)
        under_load = doctor(folder)
        until = time.monotonic() + 60
        while outcomes.certificates <= 10 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.5)
        ending.set()
        for thread in threads:
            thread.join(timeout=60)
        assert outcomes.certificates > 10
        beside = doctor(folder)
    after = doctor(folder)
    lost = journalled(folder) - serials(folder, "issued")
    for done in (beside, after):
        assert set(re.findall(r"serial ([0-9a-f]+) of \S+, signed [^,]+, was never recorded", done.stdout)) == lost
        assert done.returncode == (1 if lost else 0), done.stdout
        assert "is in the inventory and not in the journal" not in done.stdout
    assert "is in the inventory and not in the journal" not in under_load.stdout
    assert "changed" not in under_load.stdout + after.stdout
    assert serials(folder, "reserved") == set()


def test_a_store_that_was_restored_from_an_older_copy_is_named(tmp_path: Path):
    folder, copy = tmp_path / "data", tmp_path / "copy.sqlite"
    with running_gateway(folder) as gateway, client(gateway) as enroll:
        enroll()
    with contextlib.closing(sqlite3.connect(folder / "store.sqlite")) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    before = serials(folder, "issued")
    with running_gateway(folder) as gateway, client(gateway) as enroll:
        enroll()
    [newer] = serials(folder, "issued") - before
    whole = doctor(folder)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "2 certificates in it" in whole.stdout
    for each in folder.glob("store.sqlite*"):
        each.unlink()
    shutil.copy(copy, folder / "store.sqlite")
    restored = doctor(folder)
    assert restored.returncode == 1
    assert f"serial {newer} of issuing" in restored.stdout
    assert f"/authorities/issuing/serials/{newer}/revoke" in restored.stdout


def test_a_journal_that_lost_a_file_or_was_changed_is_named(tmp_path: Path):
    folder = tmp_path / "data"
    with running_gateway(folder) as gateway, client(gateway) as enroll:
        enroll()
    with running_gateway(folder) as gateway, client(gateway) as enroll:
        enroll()
    files = sorted((folder / "keys" / "journal").glob("worker-*.log"))
    signed = next(each for each in files if b"issue-certificate" in each.read_bytes())
    content = signed.read_bytes()
    signed.write_bytes(content.replace(b'"issuer":"issuing"', b'"issuer":"issuinG"', 1))
    changed = doctor(folder)
    assert changed.returncode == 1
    assert f"{signed.name}, line" in changed.stdout
    assert "not in the journal" in changed.stdout
    signed.unlink()
    gone = doctor(folder)
    assert gone.returncode == 1
    assert f"{signed.name} of the journal is gone" in gone.stdout
    shutil.rmtree(folder / "keys" / "journal")
    nothing = doctor(folder)
    assert nothing.returncode == 1
    assert "there is no journal, and 2 certificates" in nothing.stdout


def test_what_ceremonies_signed_is_in_the_journal_and_what_no_store_knows_is_named(tmp_path: Path):
    """Root, authority, RA and links; what was made past the gateway is a difference, once it is no longer new."""
    folder = tmp_path / "data"
    with running_gateway(folder):
        pass
    first = ceremonies(folder)
    assert [each["issuer"] for each in first] == ["root", "root", "issuing", "issuing"]
    assert [each["verb"] for each in first] == ["hold-ceremony"] * 3 + ["certify-listener"]
    made = muster("authority", "rekey", "root", "--yes", "--data", str(folder))
    assert made.returncode == 0, made.stderr
    assert sorted(each["issuer"] for each in ceremonies(folder)[4:]) == ["root", "root-g2", "root-g2"]
    whole = doctor(folder)
    assert whole.returncode == 0, whole.stdout
    assert "ceremonies: 6 certificates" in whole.stdout
    secret = (folder / "unlock-secret").read_bytes()
    past = [
        "create-authority",
        "--keys",
        str(folder / "keys"),
        "--name",
        "past",
        "--subject",
        "CN=Past",
        "--parent",
        "root",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "signer", *past], input=secret, capture_output=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "being recorded just now" in doctor(folder).stdout
    assert ceremonies(folder)[-1]["issuer"] == "root"


def ceremonies(folder: Path) -> list[dict]:
    """The entries that ceremonies wrote, in the order of their files."""
    found = []
    for path in sorted((folder / "keys" / "journal").glob("worker-*.log")):
        for line in path.read_bytes().splitlines():
            found += [each for each in json.loads(line).get("signed", []) if each["verb"] in CEREMONIES]
    return found


def doctor(folder: Path):
    return muster("doctor", "--journal", "--data", str(folder))


def serials(folder: Path, status: str) -> set[str]:
    """The serials of requests in that state."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/store.sqlite?mode=ro", uri=True)) as database:
        query = "SELECT serial FROM serials WHERE status = ? AND request_id IS NOT NULL"
        return {serial for (serial,) in database.execute(query, (status,))}


def journalled(folder: Path) -> set[str]:
    """The serials in the journal, as an operator would find them by hand."""
    found = set()
    for path in (folder / "keys" / "journal").glob("worker-*.log"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                entries = json.loads(line).get("signed", [])
                found |= {each["serial"] for each in entries if each["verb"] == "issue-certificate"}
    return found
