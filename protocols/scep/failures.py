"""How refusals look in SCEP: a failInfo in a signed CertRep, or an HTTP status where trying again is what helps.

Nothing that an attacker could learn from goes out: whether an envelope could be decrypted, which of the credentials was
wrong, and where a certificate stands have one sentence each (S57, S91, S122).
"""

from __future__ import annotations

from enum import Enum, unique
from http import HTTPStatus
from typing import Final

from protocols.exchange import Reason, Refused, Reply


@unique
class FailInfo(Enum):
    """RFC 8894, 3.2.1.4."""

    BAD_ALG = "0"
    BAD_MESSAGE_CHECK = "1"
    BAD_REQUEST = "2"
    BAD_TIME = "3"
    BAD_CERT_ID = "4"


class Failure(Exception):
    """The transaction fails with a CertRep. `text` is its failInfoText."""

    def __init__(self, fail_info: FailInfo, text: str) -> None:
        super().__init__(text)
        self.fail_info = fail_info
        self.text = text


# A reason's place: a failInfo for a CertRep, or a status where the client should send the very same message again. RFC
# 8894 knows no "later" but PENDING, which polls for a decision that nobody has to take; clients resend after a 503, and
# no private-key operation is spent when there are too many already (S107, S120).
ROWS: Final[dict[Reason, FailInfo | HTTPStatus]] = {
    Reason.POLICY: FailInfo.BAD_REQUEST,
    Reason.BAD_KEY: FailInfo.BAD_ALG,
    Reason.BAD_CSR: FailInfo.BAD_REQUEST,
    Reason.NAME_MISMATCH: FailInfo.BAD_REQUEST,
    Reason.UNAUTHENTICATED: FailInfo.BAD_REQUEST,
    Reason.FORBIDDEN: FailInfo.BAD_REQUEST,
    Reason.NOT_FOUND: FailInfo.BAD_CERT_ID,
    Reason.CONFLICT: FailInfo.BAD_REQUEST,
    Reason.REVOKED: FailInfo.BAD_REQUEST,
    Reason.EXPIRED: FailInfo.BAD_REQUEST,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

_CREDENTIALS: Final = "The challenge password, or the certificate that signed the request, is not accepted here."

# For these the host's own sentence would say to a stranger what exists, or why a credential failed.
_GENERIC: Final = frozenset(
    {Reason.UNAUTHENTICATED, Reason.FORBIDDEN, Reason.NOT_FOUND, Reason.REVOKED, Reason.EXPIRED}
)

# Seconds. A client that was not told otherwise comes back when a queue of seconds has passed.
_RETRY_AFTER: Final = 5


def failure(refusal: Refused) -> Failure | None:
    """The CertRep for a refusal; None where the answer is an HTTP status, by `refused`."""
    row = ROWS[refusal.reason]
    if isinstance(row, HTTPStatus):
        return None
    if refusal.reason in _GENERIC:
        return Failure(row, _CREDENTIALS)
    return Failure(row, " ".join(refusal.violations) or refusal.detail)


def refused(refusal: Refused) -> Reply:
    """The HTTP answer to a refusal for which there is no CertRep, or none can be built."""
    row = ROWS[refusal.reason]
    if not isinstance(row, HTTPStatus):
        return text(HTTPStatus.FORBIDDEN, "This is not offered here.")
    retry_after = _RETRY_AFTER if refusal.retry_after is None else refusal.retry_after
    return text(
        row,
        "Too much is asked of this server now; send the same message again.",
        ("Retry-After", str(retry_after)),
    )


def text(status: int, sentence: str, *headers: tuple[str, str]) -> Reply:
    """An HTTP error of one line of text."""
    return Reply(status, f"{sentence}\n".encode(), "text/plain; charset=utf-8", headers)
