"""A REST driver: POST /certificates with a CSR, on one kept connection."""

from __future__ import annotations

import json
import ssl
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.load.closed_loop import Client
from bench.load.requests import csr, elliptic, name
from bench.load.wire import Connection


def by_csr(url: str, root: str, token: str, application: str, profile: str) -> Client:
    """A client that enrolls with a bearer token. `url` is the API's prefix, up to `cert-manager`."""
    connection = Connection(url, ssl.create_default_context(cafile=root))
    path = "/" + url.split("/", 3)[3] + "/certificates"
    headers = ("Content-Type: application/json", f"Authorization: Bearer {token}")
    key = elliptic()

    def enroll() -> None:
        request = x509.load_der_x509_csr(csr(key, name())).public_bytes(Encoding.PEM).decode("ascii")
        body = {"applicationName": application, "profileName": profile, "csr": request}
        answer = connection.send("POST", path, json.dumps(body).encode(), headers)
        if answer.status not in {200, 201}:
            raise RuntimeError(f"{answer.status} {answer.body[:200]!r}")
        if "BEGIN CERTIFICATE" not in json.loads(answer.body)["certificate"]["certificate"]:
            raise RuntimeError("no certificate in the answer")

    return Client(enroll, connection.close)


def prepared(url: str, token: str, application: str, profile: str, count: int) -> list[bytes]:
    """So many whole requests, head and body, each with a name of its own."""
    key = elliptic()
    parts = urlsplit(url)
    requests = []
    for _ in range(count):
        pem = x509.load_der_x509_csr(csr(key, name())).public_bytes(Encoding.PEM).decode("ascii")
        body = json.dumps({"applicationName": application, "profileName": profile, "csr": pem}).encode()
        head = (
            f"POST {parts.path}/certificates HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode("ascii") + body)
    return requests
