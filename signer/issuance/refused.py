"""How everything in this room says no. Nothing has been signed when it is raised."""

from __future__ import annotations

from signer.contract.refusal import SignerRefusal


class Refused(Exception):
    """The signer's own decision. `detail` is a sentence that names the fault; it holds no secret."""

    def __init__(self, reason: SignerRefusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
