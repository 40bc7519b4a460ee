"""How refusals look in EST: an HTTP status and one line of text (RFC 7030, 4.2.3; E49, E50). Never HTML, never JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from protocols.exchange import Reason, Refused, Reply

ROWS: Final[dict[Reason, HTTPStatus]] = {
    Reason.POLICY: HTTPStatus.BAD_REQUEST,
    Reason.BAD_KEY: HTTPStatus.BAD_REQUEST,
    Reason.BAD_CSR: HTTPStatus.BAD_REQUEST,
    Reason.NAME_MISMATCH: HTTPStatus.FORBIDDEN,
    Reason.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Reason.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Reason.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.CONFLICT: HTTPStatus.CONFLICT,
    Reason.REVOKED: HTTPStatus.FORBIDDEN,
    Reason.EXPIRED: HTTPStatus.FORBIDDEN,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

# Seconds, where the host gave none. libest takes a 503 without it for final.
_RETRY_AFTER: Final = 5
_LATER: Final = frozenset({Reason.RATE_LIMITED, Reason.BUSY, Reason.UNAVAILABLE})


def refused(refusal: Refused, realm: str) -> Reply:
    """The answer to a refusal. `realm` is for the Basic challenge of a 401."""
    status = ROWS[refusal.reason]
    sentence = " ".join((refusal.detail, *refusal.violations))
    if status is HTTPStatus.UNAUTHORIZED:
        return unauthenticated(sentence, realm)
    if refusal.reason in _LATER:
        retry_after = _RETRY_AFTER if refusal.retry_after is None else refusal.retry_after
        return text(status, sentence, ("Retry-After", str(retry_after)))
    return text(status, sentence)


def unauthenticated(sentence: str, realm: str) -> Reply:
    """401 with the Basic challenge first and bare: libest reads no other, and stumbles over a charset (E90)."""
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    return text(HTTPStatus.UNAUTHORIZED, sentence, ("WWW-Authenticate", f'Basic realm="{quoted}"'))


def text(status: int, sentence: str, *headers: tuple[str, str]) -> Reply:
    """One line of text, whatever is in the sentence: what a peer sent may be quoted there, and must not forge lines."""
    line = " ".join(sentence.split())
    return Reply(status, f"{line}\n".encode(), "text/plain; charset=utf-8", headers)
