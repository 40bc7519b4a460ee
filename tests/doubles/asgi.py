"""One HTTP request put to an ASGI application by hand: every byte of the scope as a listener would give it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True)
class Answered:
    """What came back. `headers` are as sent, names' case included."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(
    app: Callable[..., Awaitable[None]],
    method: str,
    target: str,
    body: bytes | Sequence[bytes] = b"",
    *,
    headers: dict[str, str] | None = None,
    scheme: str = "https",
    address: str = "192.0.2.1",
    certificate: bytes | None = None,
    disconnect: bool = False,
) -> Answered:
    """Put one request. `target` is the raw request target; a list of bodies arrives in that many pieces, without a
    Content-Length; `disconnect` ends the request after them."""
    raw_path, _, query = target.encode().partition(b"?")
    raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if isinstance(body, bytes):
        pieces = [body]
        if body and b"content-length" not in dict(raw_headers):
            raw_headers.append((b"content-length", str(len(body)).encode()))
    else:
        pieces = list(body)
        raw_headers.append((b"transfer-encoding", b"chunked"))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": raw_headers,
        "client": (address, 4711),
        "server": ("127.0.0.1", 8443),
        "extensions": {"tls": {"client_cert_der": certificate, "tls_version": 0x0304}} if scheme == "https" else {},
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or disconnect}
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return Answered(0)
    start = sent[0]
    decoded = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Answered(start["status"], decoded, b"".join(each.get("body", b"") for each in sent[1:]))
