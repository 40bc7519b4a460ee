"""A SCEP driver: PKCSReq with a challenge over plain HTTP, each with a new transaction, the certificate unwrapped."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from typing import Final

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.load.closed_loop import Client
from bench.load.requests import csr, name
from bench.load.wire import Connection
from protocols.cms import algorithms, der, enveloped, signed
from protocols.cms.certificate import Certificate, read
from protocols.scep.messages import MESSAGE_TYPE, PKI_STATUS, SENDER_NONCE, TRANSACTION_ID

_AES_128: Final = next(each for each in algorithms.CIPHERS.values() if each.name == "aes-128-cbc")
_SUCCESS: Final = b"0"


class Messages:
    """What a device writes and reads: one RSA-2048 key with a self-signed certificate, encrypting to one RA.

    `ca_answer` is the body of the answer to GetCACert.
    """

    def __init__(self, ca_answer: bytes, challenge: str) -> None:
        self._challenge = challenge
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._signer = read(self._self_signed())
        self._ra = _ra(ca_answer)

    def enrollment(self) -> bytes:
        """A PKCSReq for a new name in a new transaction, DER."""
        return self.message(csr(self.key, name(), self._challenge))

    def message(self, request: bytes) -> bytes:
        """A PKCSReq for a CSR, DER; the transaction id is derived from the CSR."""
        ra_key = self._ra.key()
        assert isinstance(ra_key, rsa.RSAPublicKey)
        content = enveloped.encrypt(
            request,
            self._ra,
            ra_key,
            _AES_128,
            algorithms.PKCS1V15,
            key=secrets.token_bytes(_AES_128.key_length),
            iv=secrets.token_bytes(16),
        )
        transaction = hashlib.sha256(request).hexdigest().encode()
        others = (
            _attribute(MESSAGE_TYPE, der.PRINTABLE_STRING, b"19"),
            _attribute(TRANSACTION_ID, der.PRINTABLE_STRING, transaction),
            _attribute(SENDER_NONCE, der.OCTET_STRING, secrets.token_bytes(16)),
        )
        to_be_signed = signed.attributes(content, algorithms.SHA256, others)
        signature = self.key.sign(to_be_signed, padding.PKCS1v15(), hashes.SHA256())
        return signed.build(content, algorithms.SHA256, self._signer, to_be_signed, signature)

    def opened(self, body: bytes) -> x509.Certificate:
        """The certificate in a CertRep. Raises RuntimeError where it is not SUCCESS with a certificate in it."""
        reply = signed.parse(body)
        if reply.attributes[PKI_STATUS][0].contents != _SUCCESS or reply.content is None:
            raise RuntimeError("the reply is not a success")
        envelope = enveloped.parse(reply.content)
        recipient = envelope.recipient(self._signer)
        if recipient is None or envelope.cipher is None:
            raise RuntimeError("the reply is for somebody else")
        content_key = self.key.decrypt(recipient.wrapped, padding.PKCS1v15())
        inside = enveloped.decrypt(envelope, envelope.cipher, content_key)
        return _certificates(inside)[0]

    def _self_signed(self) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench device")])
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            subject, subject, self.key.public_key(), 1, now - dt.timedelta(hours=1), now + dt.timedelta(days=7)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


class Device:
    """A device with its connection; its key and certificate are made once, the RA's certificate is read once."""

    def __init__(self, url: str, challenge: str) -> None:
        self._connection = Connection(url)
        self._path = "/" + url.split("/", 3)[3]
        answer = self._connection.send("GET", f"{self._path}?operation=GetCACert")
        self._messages = Messages(answer.body, challenge)

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
        answer = self._connection.send("POST", f"{self._path}?operation=PKIOperation", message)
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {answer.body[:200]!r}")
        return self._messages.opened(answer.body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def move_to(self, url: str) -> None:
        """Go on with the same keys at another address."""
        self._connection.close()
        self._connection, self._path = Connection(url), "/" + url.split("/", 3)[3]


def by_challenge(url: str, challenge: str) -> Client:
    """A client that enrolls with the pair's static challenge."""
    device = Device(url, challenge)
    return Client(device.enroll, device.close)


def _ra(answer: bytes) -> Certificate:
    """The certificate to encrypt to: the first that may encipher keys."""
    for certificate in _certificates(answer):
        if certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment:
            return read(certificate.public_bytes(Encoding.DER))
    raise RuntimeError("no certificate of the authority may encipher keys")


def _certificates(degenerate: bytes) -> list[x509.Certificate]:
    """The certificates of a certs-only message, in the order in which they were sent, which cryptography would mind."""
    bag = cms.ContentInfo.load(degenerate)["content"]["certificates"]
    return [x509.load_der_x509_certificate(each.dump()) for each in bag]


def _attribute(kind: bytes, tag: int, value: bytes) -> bytes:
    return signed.attribute(kind, der.tlv(tag, value))
