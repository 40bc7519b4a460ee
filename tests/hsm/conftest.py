import os
import time

import pkcs11
import pytest

from signer.ceremony import Ceremony, first
from signer.keystore import pkcs11 as tokens
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.doubles.programs import lacking
from tests.hsm.kit import MODULE, SoftHsm, Store
from tests.signer.kit import SECRET


@pytest.fixture
def hsm(tmp_path, monkeypatch):
    """SoftHSM2 with one token, `hsm`, in a folder of the test's own; the module begins anew for each test."""
    if not os.path.exists(MODULE):
        lacking("needs SoftHSM2 (Debian: softhsm2)")
    made = SoftHsm(tmp_path / "softhsm")
    made.make("hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
    pkcs11.lib(MODULE).reinitialize()
    yield made
    tokens.module(MODULE).generation += 1


@pytest.fixture
def store(hsm, tmp_path):
    return Store(tmp_path / "keys")


@pytest.fixture(scope="session")
def keys_folder(tmp_path_factory):
    """A key store in software, as most gateways have it."""
    folder = tmp_path_factory.mktemp("signer")
    create(folder / "keys", SECRET)
    keys = SoftKeyStore(folder / "keys", unlock(folder / "keys", SECRET))
    first(Ceremony(keys, now=int(time.time())), folder / "tls", ["gateway.example"])
    return folder / "keys"
