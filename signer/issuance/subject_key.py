"""Keys of subjects, for enrollments where the server manages them. The key leaves; it is not kept here."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from signer.contract.messages import GeneratedKey
from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused
from signer.keystore.key import KeyStore
from signer.keystore.mechanism import GENERATORS


def generate_key(algorithm: str, store: KeyStore) -> GeneratedKey:
    """A new key by the name of its algorithm (D12), in the clear for its owner and sealed for the inventory.

    Raises `Refused` (UNSUPPORTED). RSA takes 50 ms to seconds; a client sends such asks apart.
    """
    generate = GENERATORS.get(algorithm)
    if generate is None:
        raise Refused(SignerRefusal.UNSUPPORTED, f"keys are {', '.join(sorted(GENERATORS))}; not {algorithm[:50]!r}")
    key = generate()
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return GeneratedKey(spki=spki, private_key=private, sealed=store.seal(private))
