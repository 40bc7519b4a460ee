"""EST as a company's machines do it (RFC 7030): the authority's certificates once, then one enrollment after another.

May not happen here: a certificate that is not read before it is believed.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Final

import gevent
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from bench.load.conversation import Answer
from bench.load.requests import csr
from bench.load.trust import Trust
from bench.swarm.connection import Connections
from bench.swarm.member import Member
from bench.swarm.told import few, wait

_CONTENT: Final = ("Content-Type: application/pkcs10", "Content-Transfer-Encoding: base64")
_ACCEPTED: Final = 10  # times that an enrollment is accepted for later, before its client gives up


class EstUser(Member):
    """A machine that enrolls by passphrase, or by the certificate that `--est-certificate` names."""

    weight = 4
    door: ClassVar[str] = "est"

    def begin(self) -> None:
        """Fetch the authority's certificates (4.1)."""
        self._credentials: tuple[str, ...] = ()
        if self.told.est_user:
            pair = f"{self.told.est_user}:{self.told.est_passphrase}".encode()
            self._credentials = (f"Authorization: Basic {base64.b64encode(pair).decode('ascii')}",)
        self.ask("cacerts", "GET", f"{self.told.est_url}/cacerts", wrong=_none)

    def work(self) -> None:
        """simpleenroll; of every so many, `--est-reenroll`, the new certificate renews itself at once (4.2.2)."""
        key, name = self.key(), self.name()
        certificate = self._enroll("simpleenroll", key, name, self.connections, self._credentials)
        if random.random() < self.told.est_reenroll:
            with TemporaryDirectory() as folder:
                held = Path(folder) / "client.pem"
                private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                held.write_bytes(private + certificate.public_bytes(Encoding.PEM))
                tls = Trust(self.told.ca, self.told.insecure, str(held)).context()
            connections = Connections(tls)
            try:
                self._enroll("simplereenroll", key, name, connections, ())
            finally:
                connections.close()

    def meaning(self, answer: Answer) -> str:
        """EST has no words of its own: what the server says, by its first line."""
        said = answer.body.decode("utf-8", "replace").strip().splitlines()
        return f"{answer.status} {few(said[0])}" if said else f"HTTP {answer.status}"

    def _enroll(
        self, what: str, key: ec.EllipticCurvePrivateKey, name: str, over: Connections, headers: tuple[str, ...]
    ) -> x509.Certificate:
        body, url = base64.b64encode(csr(key, name)), f"{self.told.est_url}/{what}"

        def another(answer: Answer) -> str:
            if answer.status == 202:
                return f"accepted for later {_ACCEPTED} times"
            found = _certificates(answer)
            its_own = len(found) == 1 and found[0].public_key() == key.public_key()
            return "" if its_own else "the certificate is not for the key that asked"

        for again in reversed(range(_ACCEPTED)):
            excused = _accepted if again else None  # not for ever: the last time it is wrong
            answer = self.ask(
                what,
                "POST",
                url,
                body,
                *(*_CONTENT, *headers),
                good=(200, 202),
                excused=excused,
                wrong=another,
                over=over,
            )
            if answer.status == 200:
                break
            gevent.sleep(wait(answer))
        return _certificates(answer)[0]


def _certificates(answer: Answer) -> list[x509.Certificate]:
    try:
        return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    except ValueError:
        return []


def _none(answer: Answer) -> str:
    return "" if _certificates(answer) else "no certificate in the answer"


def _accepted(answer: Answer) -> str:
    """202: come again after Retry-After, with the same request (4.2.3)."""
    return "accepted for later" if answer.status == 202 else ""
