"""ACME's errors: one table from reasons to problem documents (RFC 8555, 6.7; A103, A104).

Only the RFC's registered types leave this file, and nothing that the peer may not know: what is neither `Malformed` nor
`Refused` is a bug and passes through, for the front to answer without a detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET

from protocols.acme.messages import ERROR, ProblemBody, Site, WireIdentifier, encode
from protocols.exchange import Malformed, Reason, Refused, Reply
from protocols.jose.jws import ALGORITHMS, BadAlgorithm

MEDIA_TYPE: Final = "application/problem+json"

BAD_NONCE: Final = "JWS has an invalid anti-replay nonce"
"""acme.sh looks for these words and gives up without them (A9)."""

STATUS: Final[Mapping[str, int]] = {
    "accountDoesNotExist": 400,
    "badCSR": 400,
    "badNonce": 400,
    "badPublicKey": 400,
    "badSignatureAlgorithm": 400,
    "compound": 400,
    "externalAccountRequired": 403,
    "invalidContact": 400,
    "malformed": 400,
    "orderNotReady": 403,
    "rateLimited": 429,
    "rejectedIdentifier": 400,
    "serverInternal": 500,
    "unauthorized": 403,
    "unsupportedContact": 400,
    "unsupportedIdentifier": 400,
    "userActionRequired": 403,
}
"""The types that are answered here, with the status that each has where a row does not say another."""

REASONS: Final[Mapping[Reason, tuple[str, int]]] = {
    Reason.POLICY: ("rejectedIdentifier", 400),
    Reason.BAD_KEY: ("badPublicKey", 400),
    Reason.BAD_CSR: ("badCSR", 400),
    Reason.NAME_MISMATCH: ("badCSR", 400),
    Reason.UNAUTHENTICATED: ("unauthorized", 403),
    Reason.FORBIDDEN: ("unauthorized", 403),
    Reason.NOT_FOUND: ("malformed", 404),
    Reason.CONFLICT: ("orderNotReady", 403),
    Reason.REVOKED: ("unauthorized", 403),
    Reason.EXPIRED: ("unauthorized", 403),
    Reason.RATE_LIMITED: ("rateLimited", 429),
    # A89: a 4xx would be final for cert-manager; 503 with Retry-After makes every client come again.
    Reason.BUSY: ("serverInternal", 503),
    Reason.UNAVAILABLE: ("serverInternal", 503),
}

# At finalize it is the CSR that the policy refuses; `badPublicKey` speaks of the account's key alone (RFC 8555, 6.7).
FINALIZE_REASONS: Final[Mapping[Reason, tuple[str, int]]] = {
    **REASONS,
    Reason.POLICY: ("badCSR", 400),
    Reason.BAD_KEY: ("badCSR", 400),
}

# acme.sh gives up where it is told to wait longer than ten minutes (A55, A106).
_LONGEST_WAIT: Final = 600


class Failure(Malformed):
    """The peer's fault, with one of the RFC's own names.

    `type` is a key of `STATUS`; `status` overrides its status; `headers` go out beside the document.
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the member's name in the RFC
        detail: str,
        *,
        status: int | None = None,
        subproblems: tuple[ProblemBody, ...] = (),
        instance: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.type = type
        self.status = STATUS[type] if status is None else status
        self.subproblems = subproblems
        self.instance = instance
        self.headers = headers


def problem(
    type: str,  # noqa: A002 - the member's name in the RFC
    detail: str,
    status: int | None = None,
    *,
    site: Site | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """A problem of a registered type, without anything beside it.

    Also for what the front says before an exchange begins, and where there is no `site` that could be named.
    """
    return reply(site, Failure(type, detail, status=status, headers=headers))


def not_found(site: Site) -> Reply:
    """No resource has this URL (A53)."""
    return reply(site, missing("resource"))


def missing(what: str) -> Failure:
    """There is no such thing, or none that this account may know of."""
    return Failure("malformed", f"There is no such {what}.", status=404)


def foreign(what: str) -> Failure:
    """The thing belongs to another account (A52)."""
    return Failure("unauthorized", f"The {what} belongs to another account.")


def reply(site: Site | None, fault: Malformed) -> Reply:
    """The answer to a fault of the peer's: a `Failure` by its own row, anything else as malformed."""
    match fault:
        case Failure():
            body = ProblemBody(
                type=ERROR + fault.type,
                detail=fault.detail,
                status=fault.status,
                instance=UNSET if fault.instance is None else fault.instance,
                subproblems=fault.subproblems or UNSET,
            )
            return _reply(site, body, fault.headers)
        case BadAlgorithm():
            body = ProblemBody(
                type=f"{ERROR}badSignatureAlgorithm",
                detail=fault.detail,
                status=STATUS["badSignatureAlgorithm"],
                algorithms=ALGORITHMS,
            )
            return _reply(site, body, ())
        case _:
            return _reply(site, ProblemBody(f"{ERROR}malformed", fault.detail, STATUS["malformed"]), ())


def refused(site: Site, refusal: Refused, reasons: Mapping[Reason, tuple[str, int]] = REASONS) -> Reply:
    """The answer to a refusal of the host's, by the table's row; several violations stand in it together (D1)."""
    type_, status = reasons[refusal.reason]
    several = len(refusal.violations) > 1
    body = ProblemBody(
        type=ERROR + type_,
        # Many clients show the detail alone.
        detail="; ".join(refusal.violations) if several else refusal.detail,
        status=status,
        subproblems=tuple([ProblemBody(ERROR + type_, each, status) for each in refusal.violations])
        if several
        else UNSET,
    )
    wait = () if refusal.retry_after is None else (("Retry-After", str(seconds(refusal.retry_after))),)
    return _reply(site, body, wait)


def seconds(wait: int) -> int:
    """A time to wait, in the range that every client bears (A55)."""
    return max(1, min(wait, _LONGEST_WAIT))


def subproblem(
    type: str,  # noqa: A002 - the member's name in the RFC
    detail: str,
    identifier: WireIdentifier,
) -> ProblemBody:
    """What is wrong with one identifier (RFC 8555, 6.7.1)."""
    return ProblemBody(ERROR + type, detail, STATUS[type], identifier=identifier)


def _reply(site: Site | None, body: ProblemBody, headers: tuple[tuple[str, str], ...]) -> Reply:
    links = () if site is None else (site.index,)
    return Reply(body.status, encode(body), MEDIA_TYPE, (*links, *headers))
