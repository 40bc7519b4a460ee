"""SCEP as devices do it (RFC 8894): capabilities and certificates once, then PKCSReq after PKCSReq.

RSA keys take long to make, so a few are made before the run and shared by all users; each request has a name and a
transaction of its own. May not happen here: CMS put together (`bench.load.scep`).
"""

from __future__ import annotations

import random
from typing import ClassVar, Final

from bench.load.conversation import Answer, Failed
from bench.load.requests import NUMBER
from bench.load.scep import Messages
from bench.swarm.connection import Connections
from bench.swarm.member import Member
from protocols.cms import signed
from protocols.exchange import Malformed
from protocols.scep.messages import FAIL_INFO, PKI_STATUS

_IDENTITIES: Final = 8  # RSA keys of this process, each with its self-signed certificate
_STATUS: Final = {b"2": "failure", b"3": "pending"}  # RFC 8894, 3.2.1.3
_FAILURES: Final = {b"0": "badAlg", b"1": "badMessageCheck", b"2": "badRequest", b"3": "badTime", b"4": "badCertId"}


class ScepUser(Member):
    """A device that enrolls with the challenge that it was given."""

    weight = 5
    door: ClassVar[str] = "scep"
    _identities: ClassVar[list[Messages]] = []

    def begin(self) -> None:
        """GetCACaps and GetCACert, as every client does before its first message."""
        self.ask("GetCACaps", "GET", self._url("GetCACaps"))
        self.ask("GetCACert", "GET", self._url("GetCACert"), wrong=self._no_recipient)

    @classmethod
    def prepare(cls) -> None:
        """Make identities before anybody is timed. Where the server is not there yet, the first user makes one."""
        connections = Connections(cls.told.trust().context())
        try:
            body = connections.ask("GET", cls._url("GetCACert"), None, ()).body
            cls._identities.extend(cls._identity(body) for _ in range(_IDENTITIES))
        except (OSError, Failed, ValueError, Malformed):
            return
        finally:
            connections.close()

    @classmethod
    def _identity(cls, ca_answer: bytes) -> Messages:
        """A key and what is written with it, for names by `--names`."""
        return Messages(ca_answer, cls.told.scep_challenge, names=cls.told.names.replace("{number}", NUMBER))

    def work(self) -> None:
        """PKCSReq to CertRep; the certificate is decrypted and read."""
        messages = random.choice(self._identities)

        def unread(answer: Answer) -> str:
            if word := self._word(answer):
                return word
            try:
                messages.opened(answer.body)
            except (ValueError, Failed, Malformed):
                return "the certificate cannot be read"
            return ""

        url, body, content = self._url("PKIOperation"), messages.enrollment(), "Content-Type: application/x-pki-message"
        self.ask("PKCSReq", "POST", url, body, content, excused=self._pending, wrong=unread)

    @classmethod
    def _no_recipient(cls, answer: Answer) -> str:
        """Where `prepare` found no server, the first answer to GetCACert makes an identity."""
        if not cls._identities:
            try:
                cls._identities.append(cls._identity(answer.body))
            except (ValueError, Failed, Malformed):
                return "no certificate to encrypt to"
        return ""

    @classmethod
    def _pending(cls, answer: Answer) -> str:
        """A device asks again in hours; what a swarm can tell is how many were told to."""
        return "pending" if answer.status == 200 and cls._word(answer) == "pending" else ""

    @classmethod
    def _url(cls, operation: str) -> str:
        joint = "&" if "?" in cls.told.scep_url else "?"
        return f"{cls.told.scep_url}{joint}operation={operation}"

    @staticmethod
    def _word(answer: Answer) -> str:
        """What a CertRep says that is no success (3.2.1.3 and 3.2.1.4); an empty text for success."""
        try:
            reply = signed.parse(answer.body)
            status = reply.attributes[PKI_STATUS][0].contents
            if status == b"0":
                return ""
            failure = reply.attributes[FAIL_INFO][0].contents if FAIL_INFO in reply.attributes else b""
        except (Malformed, LookupError, ValueError):
            return "no CertRep"
        return _FAILURES.get(failure, _STATUS.get(status, "an unknown status"))
