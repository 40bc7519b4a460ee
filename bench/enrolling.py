"""`python -m bench.enrolling`: what our own code costs, an enrollment: from the ASGI call to the reply, no network.

The figures of `python -m bench` hold the listener, TLS and HTTP too; here are the fronts, the protocols, the waist, the
store (SQLite, on a disk) and the signer's processes alone. CPU microseconds of the gateway's process and of the
signer's, beside the floor: the bare cryptography that both contain together. What the client does in this process is
measured apart, and taken off.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias
from urllib.parse import quote

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench import floors, interrupt, values
from bench.inside import URLS, Inside, inside
from bench.load import acme, ocsp, scep
from bench.load.process_tree import cpu_seconds
from bench.load.requests import csr, elliptic, name
from bench.load.wire import Answer
from gateway.store import acme as store
from gateway.store.unit import Unit

CALLERS = (1, 16)
WARM_UP = 64  # enrollments: passphrases are remembered, statements prepared, keys loaded

Enroll: TypeAlias = Callable[[], Awaitable[object]]


class Client:
    """What clients' own work costs in this process. A context around it, in which nothing may be awaited."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._began


def by_est(at: Inside, client: Client) -> Enroll:
    """EST simpleenroll with the passphrase."""
    url = f"{URLS.https}/est/demo/tls-server/simpleenroll"
    credentials = base64.b64encode(f"bench:{at.secrets.passphrase}".encode()).decode()
    headers = (
        ("Content-Type", "application/pkcs10"),
        ("Content-Transfer-Encoding", "base64"),
        ("Authorization", f"Basic {credentials}"),
    )
    key = elliptic()

    async def enroll() -> None:
        with client:
            body = base64.b64encode(csr(key, name()))
        await at.send("POST", url, body, headers)

    return enroll


def by_rest(at: Inside, client: Client) -> Enroll:
    """REST with a CSR and a bearer token."""
    url = f"{URLS.https}/api/v1/cert-manager/certificates"
    headers = (("Content-Type", "application/json"), ("Authorization", f"Bearer {at.secrets.admin_token}"))
    key = elliptic()

    async def enroll() -> None:
        with client:
            request = x509.load_der_x509_csr(csr(key, name())).public_bytes(Encoding.PEM).decode()
            body = json.dumps({"applicationName": "demo", "profileName": "tls-server", "csr": request}).encode()
        await at.send("POST", url, body, headers)

    return enroll


async def by_scep(at: Inside, client: Client) -> Enroll:
    """SCEP PKCSReq with the challenge; its replies are not opened, since nobody would pay for that here."""
    url = f"{URLS.http}/scep/demo/device?operation="
    messages = scep.Messages((await at.send("GET", f"{url}GetCACert")).body, at.secrets.challenge)
    messages.opened((await at.send("POST", f"{url}PKIOperation", messages.enrollment())).body)

    async def enroll() -> None:
        with client:
            body = messages.enrollment()
        await at.send("POST", f"{url}PKIOperation", body)

    return enroll


async def by_acme(at: Inside, client: Client) -> Enroll:
    """ACME: newOrder, ready at once since the account has proved the name, finalize, download."""
    base = f"{URLS.https}/acme/bench/tls-server"
    key, certificate_key, host = acme.AccountKey(), elliptic(), name()
    nonce = (await at.send("HEAD", f"{base}/new-nonce")).headers["replay-nonce"]
    request = base64.urlsafe_b64encode(csr(certificate_key, host)).rstrip(b"=").decode()

    async def post(url: str, payload: acme.JsonObject | None) -> Answer:
        nonlocal nonce
        with client:
            body = key.signed(url, nonce, payload)
        answer = await at.send("POST", url, body, (("Content-Type", "application/jose+json"),))
        nonce = answer.headers["replay-nonce"]
        return answer

    key.kid = (await post(f"{base}/new-account", {"termsOfServiceAgreed": True})).headers["location"]
    wish: acme.JsonObject = {"identifiers": [{"type": "dns", "value": host}]}
    first = json.loads((await post(f"{base}/new-order", wish)).body)
    await _prove(at, first["authorizations"][0].rpartition("/")[2])

    async def enroll() -> None:
        order = json.loads((await post(f"{base}/new-order", wish)).body)
        done = json.loads((await post(order["finalize"], {"csr": request})).body)
        await post(done["certificate"], None)

    return enroll


async def _prove(at: Inside, authorization_id: str) -> None:
    """What a validation would write; nobody listens where it would look."""

    def unit(unit: Unit) -> None:
        store.begin_challenge(unit, authorization_id, "http-01")
        store.finish_challenge(unit, authorization_id, "http-01", error=None, at=at.resources.now())

    await at.resources.store.write(unit)


async def by_ocsp(at: Inside, client: Client, *, kept: bool) -> Enroll:
    """The status of an authority's certificate, signed by the root's responder: kept, or with a nonce each time."""
    issuing, root = [(await at.send("GET", f"{URLS.http}/ca/{name}.crt")).body for name in ("issuing", "root")]
    with client:
        model = ocsp.question(issuing, root, b"" if kept else bytes(32))
    url = f"{URLS.http}/ocsp/root"
    path = f"{url}/{quote(base64.b64encode(model).decode(), safe='')}"

    async def ask() -> None:
        if kept:
            await at.send("GET", path)
        else:
            await at.send("POST", url, model.replace(bytes(32), os.urandom(32)))

    return ask


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table."""

    title: str
    floor: Callable[[floors.Operations], float]
    caller: Callable[[Inside, Client], Awaitable[Enroll]]


async def _est(at: Inside, client: Client) -> Enroll:
    return by_est(at, client)


async def _rest(at: Inside, client: Client) -> Enroll:
    return by_rest(at, client)


WORKS: Sequence[Work] = (
    Work("EST simpleenroll, Basic", lambda each: each.est(), _est),
    Work("REST with a CSR", lambda each: each.rest(), _rest),
    Work("SCEP PKCSReq, RSA-2048", lambda each: each.scep(), by_scep),
    Work("ACME, ready at once, 3 requests", lambda each: each.acme(3), by_acme),
    Work("OCSP answer, cached", lambda each: each.ocsp(0), partial(by_ocsp, kept=True)),
    Work("OCSP answer, signed", lambda each: each.ocsp(1), partial(by_ocsp, kept=False)),
)


async def measure(at: Inside, work: Work, callers: int, count: int) -> tuple[float, float]:
    """CPU microseconds an enrollment: of this process without the client's part, and of the signer's processes."""
    client = Client()
    enrolls = [await work.caller(at, client) for _ in range(callers)]
    await _through(enrolls, WARM_UP)
    client.seconds = 0.0
    ours, theirs = time.process_time(), cpu_seconds(at.signers)
    await _through(enrolls, count)
    ours, theirs = time.process_time() - ours - client.seconds, cpu_seconds(at.signers) - theirs
    return ours / count * 1e6, theirs / count * 1e6


async def _through(enrolls: Sequence[Enroll], count: int) -> None:
    """`count` enrollments, each caller asking again when it is answered."""
    left = count

    async def caller(enroll: Enroll) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await enroll()

    async with trio.open_nursery() as nursery:
        for enroll in enrolls:
            nursery.start_soon(caller, enroll)


async def table(count: int, only: str) -> None:
    """Print the rows as they are measured."""
    operations = floors.measure()
    names = ("gateway", "signer", "together", "floor", "share")
    print(f"{'us CPU an enrollment':34} {'callers':>7} " + " ".join(f"{each:>8}" for each in names))
    async with inside() as at:
        for work in WORKS:
            if only.lower() not in work.title.lower():
                continue
            for callers in CALLERS:
                gateway, signer = await measure(at, work, callers, count)
                floor = work.floor(operations) * 1000
                figures = f"{gateway:8.0f} {signer:8.0f} {gateway + signer:8.0f} {floor:8.0f}"
                print(f"{work.title:34} {callers:7} {figures} {floor / (gateway + signer) * 100:7.0f}%")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.enrolling", description=__doc__)
    parser.add_argument("--count", type=values.count, default=300, help="enrollments a figure (default 300)")
    parser.add_argument("--only", default="", metavar="EST", help="only rows with this word")
    options = parser.parse_args(arguments)
    trio.run(table, options.count, options.only, restrict_keyboard_interrupt_to_checkpoints=True)


if __name__ == "__main__":
    interrupt.run(main)
