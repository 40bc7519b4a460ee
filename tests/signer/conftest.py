import time

import pytest

from signer.ceremony import Ceremony, first
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.signer.kit import SECRET


@pytest.fixture(scope="session")
def keys_folder(tmp_path_factory):
    """A key store of the first ceremony, made now: a root, an issuing authority, an RA. Nobody writes to it."""
    folder = tmp_path_factory.mktemp("signer")
    create(folder / "keys", SECRET)
    store = SoftKeyStore(folder / "keys", unlock(folder / "keys", SECRET))
    first(Ceremony(store, now=int(time.time())), folder / "tls", ["gateway.example"])
    return folder / "keys"
