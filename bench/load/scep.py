"""SCEP (RFC 8894): PKCSReq with a challenge over plain HTTP, each in a new transaction; the reply is opened on demand.

Messages are written ahead: two RSA signatures each would make the driver as busy as the server.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.load import opening
from bench.load.conversation import Conversation, Failed, Origin, expect
from bench.load.loop import Player
from bench.load.requests import ANY_NAME, Template
from bench.load.trust import Trust
from bench.load.wire import Connection
from protocols.cms import algorithms, der, enveloped, signed
from protocols.cms.certificate import Certificate, read
from protocols.scep.messages import MESSAGE_TYPE, PKI_STATUS, SENDER_NONCE, TRANSACTION_ID

DIGESTS: Final = {each.name: each for each in algorithms.DIGESTS.values()}
CIPHERS: Final = {each.name: each for each in algorithms.CIPHERS.values()}
_SUCCESS: Final = b"0"
_SERIAL: Final = 1  # of a device's own certificate


@dataclass(frozen=True, slots=True)
class Scep:
    """Devices of the SCEP server at `url`, with an RSA-2048 key each and one challengePassword for all."""

    url: str
    trust: Trust
    challenge: str = field(repr=False)
    names: str = ANY_NAME
    ca_identifier: str = ""
    digest: str = "sha256"
    cipher: str = "aes-128-cbc"
    by_get: bool = False
    open_answers: bool = False
    fresh: bool = False

    def players(self, count: int, ahead: int) -> list[Player]:
        """Devices that write their part of `ahead` when they have read the authority's certificates.

        They have one key: to make a hundred would take longer than to use them, and no server looks.
        """
        each_ahead, key = -(-ahead // count), rsa_2048()
        return [Enrolling(self, key, each_ahead) for _ in range(count)]


class Messages:
    """What a device writes and reads: one RSA-2048 key with a self-signed certificate, encrypting to one RA.

    `ca_answer` is the body of the answer to GetCACert; without a `key` one is made.
    """

    def __init__(
        self,
        ca_answer: bytes,
        challenge: str,
        digest: str = "sha256",
        cipher: str = "aes-128-cbc",
        names: str = ANY_NAME,
        key: rsa.RSAPrivateKey | None = None,
    ) -> None:
        self._digest, self._cipher = DIGESTS[digest], CIPHERS[cipher]
        self.key = key or rsa_2048()
        self._template = Template(self.key, names, challenge or None)
        self._signer = read(self._self_signed())
        self._ra = _ra(ca_answer)

    def enrollment(self) -> bytes:
        """A PKCSReq for a new name in a new transaction, DER."""
        return self.message(self._template.next()[1])

    def message(self, request: bytes) -> bytes:
        """A PKCSReq for a CSR, DER; the transaction id is derived from the CSR."""
        ra_key = self._ra.key()
        assert isinstance(ra_key, rsa.RSAPublicKey)
        content = enveloped.encrypt(
            request,
            self._ra,
            ra_key,
            self._cipher,
            algorithms.PKCS1V15,
            key=secrets.token_bytes(self._cipher.key_length),
            iv=secrets.token_bytes(16),
        )
        transaction = hashlib.sha256(request).hexdigest().encode()
        others = (
            _attribute(MESSAGE_TYPE, der.PRINTABLE_STRING, b"19"),
            _attribute(TRANSACTION_ID, der.PRINTABLE_STRING, transaction),
            _attribute(SENDER_NONCE, der.OCTET_STRING, secrets.token_bytes(16)),
        )
        to_be_signed = signed.attributes(content, self._digest, others)
        signature = self.key.sign(to_be_signed, padding.PKCS1v15(), self._digest.hash)
        return signed.build(content, self._digest, self._signer, to_be_signed, signature)

    def opened(self, body: bytes) -> x509.Certificate:
        """The certificate in a CertRep. Raises Failed where it is not SUCCESS with a certificate in it."""
        reply = signed.parse(body)
        if reply.attributes[PKI_STATUS][0].contents != _SUCCESS or reply.content is None:
            raise Failed("the reply is not a success")
        return _certificates(opening.opened(reply.content, self.key, self._signer.issuer, _SERIAL))[0]

    def _self_signed(self) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench device")])
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            subject, subject, self.key.public_key(), _SERIAL, now - dt.timedelta(hours=1), now + dt.timedelta(days=7)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


class Enrolling:
    """One device: what it sends was written before, as far as that was asked for; no transaction comes twice."""

    def __init__(self, fleet: Scep, key: rsa.RSAPrivateKey, ahead: int = 0) -> None:
        self._fleet, self._key = fleet, key
        self._origin = Origin(fleet.url)
        self._ahead = ahead
        self._prepared: list[bytes] = []
        self._messages: Messages | None = None

    def introduce(self) -> Conversation[None]:
        """Read the authority's certificates, and write messages ahead (RFC 8894, 4.2)."""
        self._messages = yield from self.acquainted()
        self._prepared = [self._messages.enrollment() for _ in range(self._ahead)]

    def acquainted(self) -> Conversation[Messages]:
        """GetCACert."""
        about = quote(self._fleet.ca_identifier, safe="")
        url = f"{self._fleet.url}?operation=GetCACert" + (f"&message={about}" if about else "")
        answer = expect((yield self._origin.ask("GET", url)), 200)
        return Messages(
            answer.body, self._fleet.challenge, self._fleet.digest, self._fleet.cipher, self._fleet.names, self._key
        )

    def enroll(self) -> Conversation[None]:
        """One certificate; the reply is opened if the fleet opens them, else its pkiStatus alone is looked at."""
        assert self._messages is not None
        message = self._prepared.pop() if self._prepared else self._messages.enrollment()
        reply = yield from self.sent(message)
        if self._fleet.open_answers:
            self._messages.opened(reply)
        elif _SUCCEEDED not in reply:
            raise Failed("the reply is not a success: " + _why(reply))

    def sent(self, message: bytes) -> Conversation[bytes]:
        """PKIOperation by POST or by GET (RFC 8894, 4.1); gives the CertRep."""
        url = f"{self._fleet.url}?operation=PKIOperation"
        if self._fleet.by_get:
            ask = self._origin.ask("GET", f"{url}&message={quote(base64.b64encode(message), safe='')}")
        else:
            ask = self._origin.ask("POST", url, message, "Content-Type: application/x-pki-message")
        return expect((yield ask), 200).body


class Device:
    """A device on a blocking connection; its key and certificate are made once, the RA's certificate is read once."""

    def __init__(self, url: str, challenge: str) -> None:
        self._challenge = challenge
        self._connection = Connection(url)
        self._enrolling = Enrolling(Scep(url, Trust(), challenge), rsa_2048())
        self._messages = self._connection.play(self._enrolling.acquainted())

    @property
    def key(self) -> rsa.RSAPrivateKey:
        """The device's key."""
        return self._messages.key

    def enroll(self) -> x509.Certificate:
        """One certificate, for a new name in a new transaction. Raises RuntimeError where there is none."""
        return self.send(self._messages.enrollment())

    def message(self, request: bytes) -> bytes:
        """A PKCSReq for a CSR, DER; the transaction id is derived from the CSR."""
        return self._messages.message(request)

    def send(self, message: bytes) -> x509.Certificate:
        """Send a message, and open the reply. Raises RuntimeError where it is not SUCCESS with a certificate in it."""
        return self._messages.opened(self._connection.play(self._enrolling.sent(message)))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def move_to(self, url: str) -> None:
        """Go on with the same keys at another address."""
        self._connection.close()
        self._connection = Connection(url)
        self._enrolling = Enrolling(Scep(url, Trust(), self._challenge), self._messages.key)


def rsa_2048() -> rsa.RSAPrivateKey:
    """A device's key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _ra(answer: bytes) -> Certificate:
    """The certificate to encrypt to: the first that may encipher keys, else the first of all (RFC 8894, 4.2.1)."""
    offered = _offered(answer)
    for certificate in offered:
        if _enciphers(certificate):
            return read(certificate.public_bytes(Encoding.DER))
    return read(offered[0].public_bytes(Encoding.DER))


def _enciphers(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
    except x509.ExtensionNotFound:
        return False


def _offered(answer: bytes) -> list[x509.Certificate]:
    """The answer to GetCACert: one certificate, or a certs-only message with the RA's among them."""
    try:
        return [x509.load_der_x509_certificate(answer)]
    except ValueError:
        return _certificates(answer)


def _certificates(degenerate: bytes) -> list[x509.Certificate]:
    """The certificates of a certs-only message, in the order in which they were sent, which cryptography would mind."""
    bag = cms.ContentInfo.load(degenerate)["content"]["certificates"]
    return [x509.load_der_x509_certificate(each.dump()) for each in bag]


def _attribute(kind: bytes, tag: int, value: bytes) -> bytes:
    return signed.attribute(kind, der.tlv(tag, value))


# pkiStatus SUCCESS as an attribute of the reply, DER (RFC 8894, 3.2.1.3): to find it costs nothing, to parse it does.
_SUCCEEDED: Final = _attribute(PKI_STATUS, der.PRINTABLE_STRING, _SUCCESS)


def _why(reply: bytes) -> str:
    """What a reply that is no success says of itself."""
    found = signed.parse(reply).attributes
    return ", ".join(f"{each.contents!r}" for values in found.values() for each in values if len(each.contents) <= 2)
