"""Answers that belong to no exchange: text for EST and SCEP, problem documents (RFC 9457) for everything else.

Nothing of a request is echoed, nothing of an installation told.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import orjson

from protocols.exchange import Reply

# RFC 8951: the body of an EST error is plain text for a person; SCEP says nothing, and its clients show it at best.
TEXT: Final = "text/plain; charset=utf-8"
PROBLEM: Final = "application/problem+json"

NO_STORE: Final = ("Cache-Control", "no-store")


def text(status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """One sentence as plain text."""
    return Reply(status, sentence.encode() + b"\n", TEXT, headers)


def problem(
    status: int, detail: str, headers: tuple[tuple[str, str], ...] = (), *, violations: tuple[str, ...] = ()
) -> Reply:
    """A problem document without a type of its own: `title` is the status's phrase (RFC 9457, 4.2.1)."""
    document: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if violations:
        document["violations"] = violations
    return Reply(status, orjson.dumps(document), PROBLEM, headers)


def retry_after(seconds: int | None) -> tuple[tuple[str, str], ...]:
    """A Retry-After header in whole seconds, the one form that every client reads (A55, E51)."""
    return () if seconds is None else (("Retry-After", str(seconds)),)


def unstored(reply: Reply) -> Reply:
    """E21: what was made for one client belongs in nobody's cache."""
    if NO_STORE in reply.headers:
        return reply
    for name, _ in reply.headers:
        if name.lower() == "cache-control":
            return reply
    return Reply(reply.status, reply.body, reply.media_type, (*reply.headers, NO_STORE))


NOT_FOUND: Final = problem(404, "there is nothing at this address")
