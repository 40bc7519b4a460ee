"""Enough of ACME (RFC 8555) for a client that does everything right: newOrder to download, and http-01 if asked for.

Never here: an error answer; what is wrong ends the connection.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import Final

import orjson
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding

from bench.bare.issuer import Issuer, der
from bench.bare.ledger import Ledger

JOSE: Final = "application/json"
_SHA256: Final = ec.ECDSA(hashes.SHA256())
Answer = tuple[str, str, bytes, str]  # status, media type, body, more header lines


@dataclass(slots=True)
class Order:
    """What is remembered of an order between its requests."""

    token: str
    proved: bool
    certificate: bytes = b""


class Acme:
    """The server at `base`. Where `http01_port` is 0 every order is ready at once."""

    def __init__(self, base: str, ledger: Ledger, issuer: Issuer, http01_port: int) -> None:
        self._base = base
        self._ledger = ledger
        self._issuer = issuer
        self._port = http01_port
        self._seal = AESGCM(AESGCM.generate_key(128))
        self._spent: set[bytes] = set()
        self._keys: dict[str, tuple[ec.EllipticCurvePublicKey, str]] = {}
        self._orders: dict[str, Order] = {}

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """One request's answer; `path` is below the base."""
        if method != "POST":
            urls = {name: f"{self._base}/{path}" for name, path in _RESOURCES.items()}
            return ("200 OK", JOSE, b"" if method == "HEAD" else orjson.dumps(urls), self._nonce())
        url = f"{self._base}/{path}"
        what, _, name = path.partition("/")
        protected, payload, thumbprint = self._opened(url, body)
        if what == "account":
            return self._account(protected)
        if what == "order" and not name:
            return await self._new_order()
        order = self._orders[name]
        match what:
            case "order":
                return ("200 OK", JOSE, self._shown(name, order), self._nonce())
            case "authorization":
                return ("200 OK", JOSE, self._authorization(name, order), self._nonce())
            case "challenge":
                await self._prove(order, thumbprint)
                return ("200 OK", JOSE, self._challenge(name, order), self._nonce())
            case "finalize":
                certificate = self._issuer.issue(_decoded(payload["csr"]))
                order.certificate = certificate.public_bytes(Encoding.PEM)
                await self._ledger.keep(b"c" + name.encode(), der(certificate))
                return ("200 OK", JOSE, self._shown(name, order), self._nonce())
            case _:
                self._ledger.find(b"c" + name.encode())
                return ("200 OK", "application/pem-certificate-chain", order.certificate, self._nonce())

    def _opened(self, url: str, body: bytes) -> tuple[dict[str, object], dict[str, str], str]:
        """The protected header, the payload and the account key's thumbprint: signature and nonce are good."""
        signed = orjson.loads(body)
        protected = orjson.loads(_decoded(signed["protected"]))
        if protected["url"] != url:
            raise ValueError("another resource was meant")
        key, thumbprint = self._keys[protected["kid"]] if "kid" in protected else _key(protected["jwk"])
        signature = _decoded(signed["signature"])
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
        key.verify(encode_dss_signature(r, s), f"{signed['protected']}.{signed['payload']}".encode(), _SHA256)
        nonce = _decoded(protected["nonce"])
        self._seal.decrypt(nonce[:12], nonce[12:], None)
        if nonce in self._spent:
            raise ValueError("the nonce was used")
        self._spent.add(nonce)
        return protected, orjson.loads(_decoded(signed["payload"])) if signed["payload"] else {}, thumbprint

    def _nonce(self) -> str:
        iv = os.urandom(12)
        return f"Replay-Nonce: {_encoded(iv + self._seal.encrypt(iv, b'', None))}\r\n"

    def _account(self, protected: dict[str, object]) -> Answer:
        url = f"{self._base}/account/{os.urandom(8).hex()}"
        jwk = protected["jwk"]
        assert isinstance(jwk, dict)
        self._keys[url] = _key(jwk)
        return ("201 Created", JOSE, b'{"status":"valid"}', f"Location: {url}\r\n{self._nonce()}")

    async def _new_order(self) -> Answer:
        name = os.urandom(8).hex()
        order = self._orders[name] = Order(os.urandom(16).hex(), proved=not self._port)
        shown = self._shown(name, order)
        await self._ledger.keep(b"o" + name.encode(), shown)
        return ("201 Created", JOSE, shown, f"Location: {self._base}/order/{name}\r\n{self._nonce()}")

    def _shown(self, name: str, order: Order) -> bytes:
        said = {
            "status": "valid" if order.certificate else "ready" if order.proved else "pending",
            "authorizations": [f"{self._base}/authorization/{name}"],
            "finalize": f"{self._base}/finalize/{name}",
        }
        if order.certificate:
            said["certificate"] = f"{self._base}/certificate/{name}"
        return orjson.dumps(said)

    def _authorization(self, name: str, order: Order) -> bytes:
        challenge = orjson.Fragment(self._challenge(name, order))
        return orjson.dumps({"status": "valid" if order.proved else "pending", "challenges": [challenge]})

    def _challenge(self, name: str, order: Order) -> bytes:
        status = "valid" if order.proved else "pending"
        url = f"{self._base}/challenge/{name}"
        return orjson.dumps({"type": "http-01", "status": status, "url": url, "token": order.token})

    async def _prove(self, order: Order, thumbprint: str) -> None:
        """Fetch what http-01 wants (RFC 8555, 8.3), on a connection of its own."""
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with stream:
            path = f"/.well-known/acme-challenge/{order.token}"
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            found = b""
            while data := await stream.receive_some(4096):
                found += data
        if not found.endswith(f"{order.token}.{thumbprint}".encode()):
            raise ValueError("the key authorization is another")
        order.proved = True


_RESOURCES: Final = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order"}


def _key(jwk: dict[str, str]) -> tuple[ec.EllipticCurvePublicKey, str]:
    x, y = (int.from_bytes(_decoded(jwk[name]), "big") for name in ("x", "y"))
    canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(canonical.encode())
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key(), _encoded(digest.finalize())


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
