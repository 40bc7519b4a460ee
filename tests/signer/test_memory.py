"""What is found in the memory of the signer's processes by whoever may read it: root. True sentences, some unwelcome."""

import os
import re
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from signer.keystore.seal import close_box, open_box
from signer.keystore.secret import read_secret
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.doubles.programs import lacking
from tests.signer.kit import SECRET, running_signer
from tests.signer.test_processes import asked, connected, live_ask

UNUSUAL = b"correct-horse-battery-staple-7c1f"  # found by chance nowhere else


def memory_of(pid: int) -> bytes:
    """Every private page that a process has written or could."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
        found = []
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
            for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps, re.MULTILINE):
                file.seek(int(start, 16))
                try:
                    found.append(file.read(int(end, 16) - int(start, 16)))
                except OSError:  # pages of the kernel's own
                    continue
    except PermissionError:
        lacking("only root reads the memory of a process that holds keys")
    return b"\0".join(found)


@pytest.fixture(scope="module")
def opened(keys_folder, tmp_path_factory):
    """A store of its own with an unusual secret, the keys of the other sealed anew under it, and its signer's memory."""
    if os.geteuid() != 0:
        lacking("only root reads the memory of a process that holds keys")
    folder = tmp_path_factory.mktemp("memory") / "keys"
    create(folder, UNUSUAL)
    there, here = (
        SoftKeyStore(each, unlock(each, secret)) for each, secret in ((keys_folder, SECRET), (folder, UNUSUAL))
    )
    for name in there.names():
        here.add(there.find(name))
    with running_signer(folder, secret=UNUSUAL) as signer:
        with connected(signer.sockets[0]) as connection:
            asked(connection, live_ask())
        yield here, memory_of(signer.process.pid), memory_of(signer.workers[0])
    shutil.rmtree(folder)


def test_the_unlock_secret_is_in_no_process_once_it_has_opened_the_store(opened):
    """It opens other copies of the folder too, and a person may use it elsewhere; the key that it gave opens this one."""
    _, supervisor, worker = opened
    assert UNUSUAL not in worker
    assert UNUSUAL not in supervisor


def test_no_private_key_stands_in_a_worker_s_memory_as_its_file_has_it(opened):
    """PKCS#8 as it was sealed is wiped when OpenSSL has it. OpenSSL's own numbers are there: a worker signs with them."""
    store, supervisor, worker = opened
    for name in store.names():
        plain = store.find(name).private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert plain not in worker, name
        assert plain not in supervisor, name


def test_a_supervisor_holds_the_key_encryption_key_and_no_private_key(opened):
    """It gives the one to each worker that it starts again. The scalar is looked for in the two orders of its bytes."""
    store, supervisor, worker = opened
    assert store._kek in supervisor
    scalar = store.find("issuing").private_key.private_numbers().private_value.to_bytes(32, "big")
    for each in (scalar, scalar[::-1]):
        assert each not in supervisor
    assert scalar[::-1] in worker  # so this test would find it in the supervisor too


def test_what_was_sealed_opens_into_memory_that_can_be_wiped():
    opened_box = open_box(bytes(32), close_box(bytes(32), b"content", b"use"), b"use")
    assert (type(opened_box), opened_box) == (bytearray, b"content")


def test_the_secret_is_read_into_memory_that_can_be_wiped_and_no_further_than_its_line():
    read, write = os.pipe()
    os.write(write, b"the secret\r\nthe PIN\n")
    secret = read_secret(read)
    assert (type(secret), secret) == (bytearray, b"the secret")
    assert os.read(read, 100) == b"the PIN\n"
    os.close(read)
    os.close(write)
