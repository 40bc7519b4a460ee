"""Whether an issuance was authorized by a method that the pair enables (D8). Its claims are not verified here.

The gateway verifies; the signer refuses an ask that comes without its reason, so that a code path which forgot to ask
for one cannot issue.
"""

from __future__ import annotations

from typing import Final

from signer.contract.messages import Proof
from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused

HASH_LENGTH: Final = 32  # bytes, SHA-256

# Every way to authorize, with the one protocol that it belongs to.
KINDS: Final[dict[str, str]] = {
    "acme-order": "acme",
    "est-passphrase": "est",
    "est-certificate": "est",
    "scep-challenge": "scep",
    "scep-certificate": "scep",
    "api-token": "api",
}


def check(proof: Proof | None) -> None:
    """Raises `Refused` (PROOF) unless a proof stands there, of a kind of its protocol, and the pair enables that."""
    if proof is None:
        raise Refused(SignerRefusal.PROOF, "no proof of authorization came with the ask")
    if KINDS.get(proof.kind) != proof.protocol:
        raise Refused(SignerRefusal.PROOF, f"{proof.kind!r} does not authorize anything over {proof.protocol!r}")
    if proof.protocol not in proof.enabled:
        raise Refused(SignerRefusal.PROOF, f"the pair does not enable {proof.protocol!r}")
    if len(proof.request_hash) != HASH_LENGTH:
        raise Refused(SignerRefusal.PROOF, "the proof names no request: its hash is not 32 bytes")
