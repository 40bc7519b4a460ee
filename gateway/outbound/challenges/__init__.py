"""Challenges: proofs of control that are fetched from the world. One family behind one door, `Prover`.

Here connections leave for addresses that strangers chose. So: every address is checked and then dialled itself, every
read is bounded, and nothing that was fetched goes further than a yes or a no. No ACME record, no store, no decision of
policy lives here. Comes in: `actions.validate`.
"""

from gateway.outbound.challenges.http01 import Http01
from gateway.outbound.challenges.proof import NOTHING_SEEN, Evidence, Fault, Prover, Target, Unproven

__all__ = ["NOTHING_SEEN", "Evidence", "Fault", "Http01", "Prover", "Target", "Unproven"]
