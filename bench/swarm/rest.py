"""REST as pipelines do it: a certificate for a CSR with a bearer token, and a look at it afterwards.

May not happen here: a key made by the server; pipelines that want one pay for it themselves.
"""

from __future__ import annotations

import json
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.load.conversation import Answer
from bench.load.requests import csr
from bench.swarm.member import Member
from bench.swarm.told import few, no_certificate


class RestUser(Member):
    """A pipeline that owns a token."""

    weight = 3
    door: ClassVar[str] = "rest"

    def work(self) -> None:
        """POST /certificates with a CSR."""
        request = x509.load_der_x509_csr(csr(self.key(), self.name())).public_bytes(Encoding.PEM).decode("ascii")
        wish = {
            "applicationName": self.told.rest_application,
            "profileName": self.told.rest_profile,
            "csr": request,
        }
        self.ask(
            "POST certificates",
            "POST",
            f"{self.told.rest_url}/certificates",
            json.dumps(wish).encode(),
            "Content-Type: application/json",
            f"Authorization: Bearer {self.told.rest_token}",
            good=(200, 201),
            excused=_waits,
            wrong=no_certificate,
        )

    def meaning(self, answer: Answer) -> str:
        """What the problem document says (RFC 9457)."""
        try:
            problem = json.loads(answer.body)
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            return f"HTTP {answer.status}"
        said = problem.get("detail") or problem.get("title") or problem.get("message") or ""
        return f"{answer.status} {few(str(said))}"


def _waits(answer: Answer) -> str:
    return "waits for approval" if answer.status == 202 else ""
