"""ACME drivers: newOrder to download on one kept connection, the order ready at once or after http-01."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bench.load.closed_loop import Client
from bench.load.requests import csr, elliptic
from bench.load.wire import Answer, Connection

JsonObject = dict[str, object]
_POLL: Final = 0.01  # seconds; the driver asks at once and then often, as the quickest clients do


class AccountKey:
    """An account's key, and the requests that it signs.

    `jwk` is the public key (RFC 7517), `kid` the account's URL, empty before there is one.
    """

    def __init__(self) -> None:
        self._key = elliptic()
        numbers = self._key.public_key().public_numbers()
        self.jwk = {"crv": "P-256", "kty": "EC", "x": _b64(numbers.x.to_bytes(32)), "y": _b64(numbers.y.to_bytes(32))}
        canonical = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True).encode()
        self.thumbprint = _b64(hashlib.sha256(canonical).digest())
        self.kid = ""

    def signed(self, url: str, nonce: str, payload: JsonObject | None) -> bytes:
        """The body of one request: a flattened JWS (RFC 8555, 6.2); without a payload a POST-as-GET."""
        header: JsonObject = {"alg": "ES256", "nonce": nonce, "url": url}
        if self.kid:
            header["kid"] = self.kid
        else:
            header["jwk"] = self.jwk
        protected = _b64(json.dumps(header).encode())
        content = "" if payload is None else _b64(json.dumps(payload).encode())
        r, s = decode_dss_signature(self._key.sign(f"{protected}.{content}".encode(), ec.ECDSA(hashes.SHA256())))
        signature = _b64(r.to_bytes(32) + s.to_bytes(32))
        return json.dumps({"protected": protected, "payload": content, "signature": signature}).encode()


class Account:
    """An account with its connection and its nonce. One thread at a time."""

    def __init__(self, directory: str, root: str) -> None:
        self._connection = Connection(directory, ssl.create_default_context(cafile=root))
        self._origin = "/".join(directory.split("/", 3)[:3])
        self._key = AccountKey()
        self._certificate_key = elliptic()
        self.thumbprint = self._key.thumbprint
        try:
            self._nonce, self._new_order = self._register(directory)
        except BaseException:
            self._connection.close()
            raise

    def _register(self, directory: str) -> tuple[str, str]:
        urls = json.loads(self._connection.send("GET", self._path(directory)).body)
        self._nonce = self._connection.send("HEAD", self._path(urls["newNonce"])).headers["replay-nonce"]
        self._key.kid = self._post(urls["newAccount"], {"termsOfServiceAgreed": True}).headers["location"]
        return self._nonce, urls["newOrder"]

    def issue(self, name: str, responder: Responder | None = None) -> bytes:
        """One certificate for `name`, PEM; `responder` answers the http-01 challenges, None expects a ready order."""
        identifiers = [{"type": "ip" if name[0].isdigit() else "dns", "value": name}]
        made = self._post(self._new_order, {"identifiers": identifiers})
        order = json.loads(made.body)
        if order["status"] == "pending":
            if responder is None:
                raise RuntimeError("the order was not ready at once")
            for url in order["authorizations"]:
                self._authorize(url, responder)
        request = csr(self._certificate_key, name) if not name[0].isdigit() else _ip_csr(self._certificate_key, name)
        order = json.loads(self._post(order["finalize"], {"csr": _b64(request)}).body)
        while order["status"] == "processing":
            time.sleep(_POLL)
            order = json.loads(self._post(made.headers["location"], None).body)
        return self._post(str(order["certificate"]), None).body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _authorize(self, url: str, responder: Responder) -> None:
        authorization = json.loads(self._post(url, None).body)
        (challenge,) = [each for each in authorization["challenges"] if each["type"] == "http-01"]
        responder.answers[challenge["token"]] = f"{challenge['token']}.{self.thumbprint}".encode()
        status = json.loads(self._post(challenge["url"], {}).body)["status"]
        while status in {"pending", "processing"}:
            time.sleep(_POLL)
            status = json.loads(self._post(url, None).body)["status"]
        del responder.answers[challenge["token"]]
        if status != "valid":
            raise RuntimeError(f"the authorization is {status}")

    def _post(self, url: str, payload: JsonObject | None) -> Answer:
        body = self._key.signed(url, self._nonce, payload)
        answer = self._connection.send("POST", self._path(url), body, ("Content-Type: application/jose+json",))
        self._nonce = answer.headers["replay-nonce"]
        if answer.status >= 400:
            raise RuntimeError(f"{answer.status} {answer.body[:300]!r}")
        return answer

    def _path(self, url: str) -> str:
        return url.removeprefix(self._origin)


class Responder:
    """Answers http-01 on 127.0.0.1. `answers` maps tokens to key authorizations; `port` is where it listens."""

    def __init__(self, port: int = 0) -> None:
        self.answers: dict[str, bytes] = {}
        answers = self.answers

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answers.get(self.path.rpartition("/")[2], b"")
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base class's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def with_validation(directory: str, root: str, responder: Responder, name: str = "localhost") -> Client:
    """A client whose every order is for a new account's first name, so that each needs its validation."""
    account = Account(directory, root)
    return Client(lambda: _check(account.issue(name, responder)), account.close)


def ready_at_once(directory: str, root: str, responder: Responder, name: str = "localhost") -> Client:
    """A client that proved its name once; from then on its orders are born ready."""
    account = Account(directory, root)
    account.issue(name, responder)
    return Client(lambda: _check(account.issue(name)), account.close)


def _check(chain: bytes) -> None:
    if chain.count(b"BEGIN CERTIFICATE") < 2:
        raise RuntimeError("the chain is not whole")


def _ip_csr(key: ec.EllipticCurvePrivateKey, address: str) -> bytes:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
