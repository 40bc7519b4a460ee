"""A whole gateway on two tokens with one key: one is taken away while clients enroll; the inventory is what they hold."""

import sqlite3
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509

from signer.ceremony.places import add_place
from signer.keystore.pin import Logins
from signer.keystore.pkcs11 import Tokens
from signer.keystore.softkey import SoftKeyStore, unlock
from tests.conformance.test_rest_clients import Rest, managed
from tests.doubles.gateway import running_gateway
from tests.doubles.programs import installed
from tests.hsm.kit import PIN, place
from tests.hsm.test_failover import Pair

pytestmark = pytest.mark.conformance

CLIENTS = 3


class Clients:
    """So many curls that enroll over REST, each again when it is told to try again."""

    def __init__(self, muster, folder: Path) -> None:
        self._muster = muster
        self._folder = folder
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._enroll, args=(number,)) for number in range(CLIENTS)]
        self.serials: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def more(self, number: int) -> None:
        goal, until = len(self.serials) + number, time.monotonic() + 60
        while len(self.serials) < goal:
            assert time.monotonic() < until, self.statuses
            time.sleep(0.02)

    def _enroll(self, number: int) -> None:
        folder = self._folder / f"client-{number}"
        folder.mkdir()
        rest = Rest(self._muster, folder)
        while not self._ended.is_set():
            status, document = rest.create(managed())
            self.statuses[status] += 1
            if status == 200:
                leaf = x509.load_pem_x509_certificate(document["certificate"]["certificate"].encode())
                self.serials[leaf.serial_number] += 1


def onto_two_tokens(pair: Pair, folder: Path) -> None:
    """The issuing authority's key, from the gateway's folder, written to both tokens; its file says so from now on."""
    secret = (folder / "unlock-secret").read_bytes().strip()
    kek = unlock(folder / "keys", secret)
    tokens = Tokens(Logins(folder / "keys", kek, {"": PIN}), writing=True)
    keys = SoftKeyStore(folder / "keys", kek, tokens)
    key = keys.find("issuing")
    for label in ("a", "b"):
        tokens.take_in(place("issuing", label), key.private_key)
    (folder / "keys" / "issuing.key").unlink()
    keys.add(replace(key, private_key=tokens.find(place("issuing", "a"), key.private_key.public_key())))
    add_place(keys, tokens, "issuing", place("", "b"))


def recorded(folder: Path) -> Counter[int]:
    store = folder / "store.sqlite"
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT serial FROM certificates WHERE request_id IS NOT NULL").fetchall()
    return Counter(int(each, 16) for (each,) in rows)


def test_a_token_that_is_taken_away_while_clients_enroll_loses_nothing_and_issues_nothing_twice(hsm, tmp_path):
    installed("curl", "openssl")
    data = tmp_path / "data"
    with running_gateway(data):
        pass  # a first start, with keys in software
    pair = Pair(hsm, tmp_path / "elsewhere")
    onto_two_tokens(pair, data)
    variables = {
        "SOFTHSM2_CONF": str(hsm.configuration),
        "MUSTER_SIGNER_PIN": PIN,
        "MUSTER_SIGNER_WORKERS": "2",
    }
    with running_gateway(data, variables=variables) as muster:
        with Clients(muster, tmp_path) as clients:
            clients.more(5)
            pair.take("a")
            clients.more(15)
            pair.give_back("a")
            clients.more(10)
        held = clients.serials
        assert set(clients.statuses) <= {200, 503}
        assert max(held.values()) == 1
        assert recorded(data) == held
        assert "the token a is left alone" in muster.log
