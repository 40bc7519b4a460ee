"""Ceremonies' entries in the issuance journal: written before what was signed is stored, told or used.

Nothing is claimed: a ceremony's serials are its own dice. A ceremony that signs nothing leaves no file.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from signer.journal.entry import PURPOSE, Signed
from signer.journal.files import FOLDER
from signer.journal.journal import Journal
from signer.keystore.softkey import SoftKeyStore


class Scribe:
    """The journal of a store's folder, begun with the first thing that is written."""

    def __init__(self, folder: Path, store: SoftKeyStore) -> None:
        self._folder = folder
        self._store = store
        self._journal: Journal | None = None

    def write(self, verb: str, issuer: str, certificate: x509.Certificate) -> None:
        """Write down a signature by the key of that name. Raises `JournalFailed`: then it may not be used."""
        if self._journal is None:
            self._journal = Journal(self._folder.absolute() / FOLDER, self._store.derived(PURPOSE))
        der = certificate.public_bytes(Encoding.DER)
        self._journal.record(Signed(verb, issuer, certificate.serial_number, der))
        self._journal.write()

    def close(self) -> None:
        """End in order."""
        if self._journal is not None:
            self._journal.close()
