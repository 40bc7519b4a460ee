"""`python -m bench.doors`: what the doors cost a request: routing, protocol, host, and no waist behind.

An enrollment's own work (policy, store, signer) is left out: it is answered at once with a certificate made before.
Whatever else a request needs is real. So nothing waits, one request runs after the other, and the best of many batches
is a figure that a noisy machine repeats. CPU microseconds, beside the bare cryptography that the door itself does.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, cast
from unittest.mock import patch
from urllib.parse import quote

import msgspec
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench import floors, interrupt, values
from bench.inside import URLS, Inside, inside
from bench.load import acme, ocsp, scep
from bench.load.requests import csr, elliptic, name
from bench.load.wire import Answer
from gateway.actions.finalize import finalize
from gateway.actions.resources import Resources
from gateway.domain.issuance import Issued
from gateway.fronts import est, rest
from gateway.fronts import scep as scep_front
from gateway.fronts.acme import host
from gateway.fronts.front import Front
from gateway.fronts.routes import routes
from gateway.outbound.signer import Signer
from gateway.serve.asgi import application
from gateway.serve.telemetry import Counters
from gateway.store import acme as store
from gateway.store.unit import Unit
from protocols.acme.states import Account, Order, OrderStatus
from protocols.cms import enveloped, signed
from protocols.pkix.csr import parse

Ask: TypeAlias = Callable[[], Awaitable[object]]
Batch: TypeAlias = Callable[[int], Awaitable[list[Ask]]]

# Short ones and many: on a machine that others use too, a batch that nobody disturbed is a short one.
BATCHES: Final = 80


class _Unwrapped:
    """A signer that has unwrapped every key before, and signs without a key: the RA's work is not the door's."""

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}

    async def unwrap(self, ra_key: str, wrapped: bytes, algorithm: str, length: int, *, share: str) -> bytes:  # noqa: ARG002, the signer's shape
        return self.keys[wrapped]

    async def sign_attributes(self, ra_key: str, attributes: bytes, digest: str, *, share: str) -> bytes:  # noqa: ARG002, the signer's shape
        return bytes(256)


@contextmanager
def waistless(at: Inside, issued: Issued) -> Iterator[tuple[Inside, _Unwrapped]]:
    """The same gateway, in which an enrollment is over as soon as it is asked for."""

    async def enroll(*_: object, **__: object) -> Issued:
        return issued

    async def finalize(*given: object, **_: object) -> Order:
        order = next(each for each in given if isinstance(each, Order))
        return msgspec.structs.replace(order, status=OrderStatus.VALID, certificate_id=issued.certificate_id)

    signer = _Unwrapped()
    resources = replace(at.resources, signer=cast("Signer", signer))
    asgi = application(routes(Front(resources, URLS)), Counters())
    with ExitStack() as replaced:
        for front in (est, rest, scep_front):
            replaced.enter_context(patch.object(front, "enroll", enroll))
        replaced.enter_context(patch.object(host, "finalize", finalize))
        yield replace(at, asgi=asgi), signer


async def by_est(at: Inside) -> Batch:
    """EST simpleenroll with the passphrase."""
    url = f"{URLS.https}/est/demo/tls-server/simpleenroll"
    credentials = base64.b64encode(f"bench:{at.secrets.passphrase}".encode()).decode()
    headers = (
        ("Host", "gateway.bench.example"),
        ("User-Agent", "bench"),
        ("Content-Type", "application/pkcs10"),
        ("Content-Transfer-Encoding", "base64"),
        ("Authorization", f"Basic {credentials}"),
    )
    body = base64.b64encode(csr(elliptic(), name()))

    async def batch(count: int) -> list[Ask]:
        return [partial(at.send, "POST", url, body, headers)] * count

    return batch


async def by_rest(at: Inside) -> Batch:
    """REST with a CSR."""
    url = f"{URLS.https}/api/v1/cert-manager/certificates"
    headers = (
        ("Host", "gateway.bench.example"),
        ("User-Agent", "bench"),
        ("Content-Type", "application/json"),
        ("Authorization", f"Bearer {at.secrets.admin_token}"),
    )
    request = x509.load_der_x509_csr(csr(elliptic(), name())).public_bytes(Encoding.PEM).decode()
    body = json.dumps({"applicationName": "demo", "profileName": "tls-server", "csr": request}).encode()

    async def batch(count: int) -> list[Ask]:
        return [partial(at.send, "POST", url, body, headers)] * count

    return batch


async def by_scep(at: Inside, signer: _Unwrapped, real: Signer, ra_key: str) -> Batch:
    """SCEP PKCSReq."""
    url = f"{URLS.http}/scep/demo/device?operation="
    messages = scep.Messages((await at.send("GET", f"{url}GetCACert")).body, at.secrets.challenge)
    body = messages.enrollment()
    envelope = enveloped.parse(signed.parse(body).content or b"")
    recipient, cipher = envelope.recipients[0], envelope.cipher
    assert recipient.transport is not None
    assert cipher is not None
    key = await real.unwrap(ra_key, recipient.wrapped, recipient.transport.name, cipher.key_length, share="bench")
    signer.keys[recipient.wrapped] = key

    async def batch(count: int) -> list[Ask]:
        return [partial(at.send, "POST", f"{url}PKIOperation", body, (("Host", "gateway.bench.example"),))] * count

    return batch


class _Account:
    """An ACME account with an order that is ready, which stays so."""

    def __init__(self, at: Inside) -> None:
        self._at = at
        self._nonce = ""
        self.base = f"{URLS.https}/acme/bench/tls-server"
        self._key, self.certificate_key, self.host = acme.AccountKey(), elliptic(), name()
        self.order: dict[str, str] = {}

    async def open(self) -> None:
        """Register, prove the name, and order."""
        await self.post(f"{self.base}/new-account", {"termsOfServiceAgreed": True}, register=True)
        wish: acme.JsonObject = {"identifiers": [{"type": "dns", "value": self.host}]}
        first = json.loads((await self.post(f"{self.base}/new-order", wish)).body)
        authorization = first["authorizations"][0].rpartition("/")[2]

        def unit(unit: Unit) -> None:
            store.begin_challenge(unit, authorization, "http-01")
            store.finish_challenge(unit, authorization, "http-01", error=None, at=self._at.resources.now())

        await self._at.resources.store.write(unit)
        answer = await self.post(f"{self.base}/new-order", wish)
        self.order = {**json.loads(answer.body), "url": answer.headers["location"]}

    async def post(self, url: str, payload: acme.JsonObject | None, *, register: bool = False) -> Answer:
        """One signed request, now."""
        [ask] = await self.signed(1, url, payload)
        answer = cast("Answer", await ask())
        if register:
            self._key.kid = answer.headers["location"]
        return answer

    async def signed(self, count: int, url: str, payload: acme.JsonObject | None) -> list[Ask]:
        """Requests with a nonce each, signed and not yet sent."""
        asks: list[Ask] = []
        headers = (
            ("Host", "gateway.bench.example"),
            ("User-Agent", "bench"),
            ("Content-Type", "application/jose+json"),
        )
        for _ in range(count):
            nonce = (await self._at.send("HEAD", f"{self.base}/new-nonce")).headers["replay-nonce"]
            asks.append(partial(self._at.send, "POST", url, self._key.signed(url, nonce, payload), headers))
        return asks


async def by_acme(at: Inside, *, finalized: bool) -> Batch:
    """ACME: an order read, or finalized, by its account."""
    account = _Account(at)
    await account.open()
    if not finalized:
        return lambda count: account.signed(count, account.order["url"], None)
    request = base64.urlsafe_b64encode(csr(account.certificate_key, account.host)).rstrip(b"=").decode()
    return lambda count: account.signed(count, account.order["finalize"], {"csr": request})


async def by_new_order(at: Inside) -> Batch:
    """ACME: an order for a name that is proved, with the unit that writes it; so it is ready at once."""
    account = _Account(at)
    await account.open()
    wish: acme.JsonObject = {"identifiers": [{"type": "dns", "value": account.host}]}
    return lambda count: account.signed(count, f"{account.base}/new-order", wish)


async def by_download(at: Inside, real: Resources) -> Batch:
    """ACME: the chain of a certificate that was issued for an order."""
    account = _Account(at)
    await account.open()
    request = parse(csr(account.certificate_key, account.host))
    pair = next(each for each in real.catalogue().pairs if each.application.name == "bench")

    def unit(unit: Unit) -> tuple[Account | None, Order | None]:
        ordered = store.find_order(unit, pair.id, account.order["url"].rpartition("/")[2], real.now())
        return (None if ordered is None else store.find_account(unit, pair.id, ordered.account_id)), ordered

    who, ordered = await real.store.read(unit)
    assert who is not None
    assert ordered is not None
    done = await finalize(real, pair, who, ordered, request)
    return lambda count: account.signed(count, f"{account.base}/certificate/{done.certificate_id}", None)


async def by_get(at: Inside, path: str, method: str = "GET") -> Batch:
    """What everybody is told the same."""
    headers = (("Host", "gateway.bench.example"), ("User-Agent", "bench"))

    async def batch(count: int) -> list[Ask]:
        return [partial(at.send, method, path, b"", headers)] * count

    return batch


async def by_ocsp(at: Inside) -> Batch:
    """The status of an authority's certificate, signed before."""
    issuing, root = [(await at.send("GET", f"{URLS.http}/ca/{name}.crt")).body for name in ("issuing", "root")]
    model = ocsp.question(issuing, root, b"")
    return await by_get(at, f"{URLS.http}/ocsp/root/{quote(base64.b64encode(model).decode(), safe='')}")


async def measure(batch: Batch, count: int) -> float:
    """CPU microseconds of one request: of the best of `BATCHES` batches, each made before its time is taken."""
    best = float("inf")
    for _ in range(BATCHES):
        asks = await batch(count)
        begun = time.thread_time()
        for ask in asks:
            await ask()
        best = min(best, time.thread_time() - begun)
    return best / count * 1e6


async def table(count: int, only: str) -> None:
    """Print the rows as they are measured."""
    operations = floors.measure()
    print(f"{'us CPU a request':34} {'door':>8} {'floor':>8} {'beside it':>9}")
    async with inside() as at:
        pair = next(each for each in at.resources.catalogue().pairs if each.authority.ra_key is not None)
        authority = pair.authority
        issued = Issued("certificate", "request", "1f", authority.certificate, authority.issuers, authority.root)
        with waistless(at, issued) as (door, signer):
            rows: Sequence[tuple[str, float, Callable[[], Awaitable[Batch]]]] = (
                ("ACME order read", operations.verify_p256, partial(by_acme, door, finalized=False)),
                (
                    "ACME finalize",
                    operations.verify_p256 + operations.parse_csr,
                    partial(by_acme, door, finalized=True),
                ),
                ("ACME newOrder and its unit", operations.verify_p256, partial(by_new_order, door)),
                ("ACME download", operations.verify_p256, partial(by_download, door, at.resources)),
                ("ACME new-nonce", 0.0, partial(by_get, door, f"{URLS.https}/acme/bench/tls-server/new-nonce", "HEAD")),
                ("EST simpleenroll, Basic", operations.parse_csr, partial(by_est, door)),
                ("EST cacerts", 0.0, partial(by_get, door, f"{URLS.https}/est/demo/tls-server/cacerts")),
                ("REST with a CSR", operations.parse_csr, partial(by_rest, door)),
                (
                    "SCEP PKCSReq, RSA-2048",
                    operations.parse_csr_rsa + 2 * operations.rsa_public,
                    partial(by_scep, door, signer, at.resources.signer, authority.ra_key or ""),
                ),
                ("OCSP answer, cached", 0.0, partial(by_ocsp, at)),
                ("nothing there", 0.0, partial(by_get, door, f"{URLS.https}/healthz")),
            )
            for title, floor, make in rows:
                if only.lower() in title.lower():
                    figure = await measure(await make(), count)
                    print(f"{title:34} {figure:8.1f} {floor:8.1f} {figure - floor:9.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.doors", description=__doc__)
    parser.add_argument("--count", type=values.count, default=20, help="requests a batch (default 20)")
    parser.add_argument("--only", default="", metavar="EST", help="only rows with this word")
    options = parser.parse_args(arguments)
    trio.run(table, options.count, options.only, restrict_keyboard_interrupt_to_checkpoints=True)


if __name__ == "__main__":
    interrupt.run(main)
