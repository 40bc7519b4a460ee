"""How refusals look in the REST API: problem documents (RFC 9457). A mistake in a request names its field."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import orjson

from protocols.exchange import Malformed, Reason, Refused, Reply

MEDIA_TYPE: Final = "application/problem+json"

# 422 where the request was understood and cannot be carried out as it stands; 409 where another state would do.
ROWS: Final[dict[Reason, tuple[HTTPStatus, str]]] = {
    Reason.POLICY: (HTTPStatus.UNPROCESSABLE_ENTITY, "Not allowed by the policy"),
    Reason.BAD_KEY: (HTTPStatus.UNPROCESSABLE_ENTITY, "Key not acceptable"),
    Reason.BAD_CSR: (HTTPStatus.UNPROCESSABLE_ENTITY, "Certification request not acceptable"),
    Reason.NAME_MISMATCH: (HTTPStatus.UNPROCESSABLE_ENTITY, "Names do not match"),
    Reason.UNAUTHENTICATED: (HTTPStatus.UNAUTHORIZED, "Not authenticated"),
    Reason.FORBIDDEN: (HTTPStatus.FORBIDDEN, "Not allowed"),
    Reason.NOT_FOUND: (HTTPStatus.NOT_FOUND, "Not found"),
    Reason.CONFLICT: (HTTPStatus.CONFLICT, "Not possible in this state"),
    Reason.REVOKED: (HTTPStatus.CONFLICT, "Certificate revoked"),
    Reason.EXPIRED: (HTTPStatus.CONFLICT, "Expired"),
    Reason.RATE_LIMITED: (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    Reason.BUSY: (HTTPStatus.SERVICE_UNAVAILABLE, "Busy"),
    Reason.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "Temporarily unavailable"),
}


def problem(status: int, title: str, detail: str, violations: tuple[str, ...] = (), field: str | None = None) -> Reply:
    """A problem document. `field` is the path of the offending member, `violations` are all that was found together."""
    document: dict[str, object] = {"title": title, "status": int(status), "detail": detail}
    if field is not None:
        document["field"] = field
    if violations:
        document["violations"] = violations
    return Reply(status, orjson.dumps(document), MEDIA_TYPE, (("Cache-Control", "no-store"),))


def malformed(fault: Malformed) -> Reply:
    """The answer to a request that means nothing."""
    return problem(HTTPStatus.BAD_REQUEST, "Malformed request", fault.detail, field=fault.field)


def refused(refusal: Refused) -> Reply:
    """The answer to a refusal."""
    status, title = ROWS[refusal.reason]
    reply = problem(status, title, refusal.detail, refusal.violations)
    extra: tuple[tuple[str, str], ...] = ()
    if refusal.retry_after is not None:
        extra = (("Retry-After", str(refusal.retry_after)),)
    if status is HTTPStatus.UNAUTHORIZED:
        extra = (*extra, ("WWW-Authenticate", "Bearer"))
    return Reply(status, reply.body, reply.media_type, reply.headers + extra)
