"""A whole gateway in this process, but for listeners: real store, real signer processes, and its ASGI application.

What is left out is what a request costs before it is one: sockets, TLS, HTTP. The rest is assembled as
`gateway.serve.lifespan` does it.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from starlette.types import ASGIApp, Message

from bench.gateway import REUSE
from bench.load.process_tree import descendants
from bench.load.wire import Answer
from gateway.actions.configure import configure
from gateway.actions.resources import Resources
from gateway.domain.declaration.reading import read
from gateway.fronts.front import Front, Urls
from gateway.fronts.limits import WHOLE
from gateway.fronts.routes import routes
from gateway.outbound.signer import open_signer
from gateway.serve import ceremony, folder, signer_process
from gateway.serve.asgi import application
from gateway.serve.declare import Keys
from gateway.serve.first_start import declare
from gateway.serve.folder import Folder
from gateway.serve.opening import now, opened_store
from gateway.serve.quickstart import Secrets
from gateway.serve.settings import load
from gateway.serve.telemetry import Counters
from gateway.store import catalogue

URLS = Urls("https://gateway.bench.example", "http://gateway.bench.example")


@dataclass(frozen=True, slots=True)
class Inside:
    """The gateway, with the applications `demo` and `bench`; `signers` are the ids of supervisor and workers."""

    asgi: ASGIApp
    resources: Resources
    secrets: Secrets
    signers: list[int]

    async def send(self, method: str, url: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """Put one request to the application, as the listener would, and give the answer."""
        scheme, _, rest = url.partition("://")
        path, _, query = rest[rest.index("/") :].partition("?")
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        raw.append((b"content-length", b"%d" % len(body)))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 443),
            "extensions": {WHOLE: body, **({"tls": {"client_cert_der": None}} if scheme == "https" else {})},
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.asgi(scope, receive, send)
        names = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        answer = Answer(sent[0]["status"], names, sent[1]["body"])
        if answer.status >= 400:
            raise RuntimeError(f"{answer.status} {answer.body[:300]!r}")
        return answer


@asynccontextmanager
async def inside() -> AsyncIterator[Inside]:
    """A gateway with the demo application on a new data folder; everything ends, and is removed, on the way out."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place, signer_process.runtime_folder() as runtime:
        settings = load({"data": str(Path(place, "data"))}, {}, folder=Path(place))
        folder.make(Folder(settings.data))
        secret = ceremony.make_secret(Folder(settings.data))
        made = ceremony.first(settings, secret, "http://127.0.0.1:1")
        supervisor = signer_process.start(settings, secret, runtime)
        try:
            workers = await trio.to_thread.run_sync(signer_process.await_ready, supervisor, runtime)
            async with (
                opened_store(settings) as store,
                open_signer(workers, queue=settings.signer_queue) as signer,
            ):
                known = await declare(settings, made, store, URLS, now=now(), dice=secrets.token_bytes)
                await configure(
                    store,
                    read(REUSE.format(port=80)),
                    ceremony=Keys(settings, secret).make,
                    actor="system:bench",
                    now=now(),
                    dice=secrets.token_bytes,
                )
                snapshot = await store.read(catalogue.load)
                resources = Resources(store, signer, lambda: snapshot, now, secrets.token_bytes)
                asgi = application(routes(Front(resources, URLS)), Counters())
                yield Inside(asgi, resources, known, descendants(supervisor.pid))
        finally:
            signer_process.end(supervisor)
