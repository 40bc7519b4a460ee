"""The product's own refusals. `fronts/carry` turns them into the protocols' `Refused`, row by row."""

from __future__ import annotations

from enum import Enum, unique


@unique
class RefusalReason(Enum):
    """Why an action was refused. The names are those of `protocols.exchange.Reason`; a test compares the two."""

    POLICY = "policy"
    BAD_KEY = "bad-key"
    BAD_CSR = "bad-csr"
    NAME_MISMATCH = "name-mismatch"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    REVOKED = "revoked"
    EXPIRED = "expired"
    RATE_LIMITED = "rate-limited"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"


class Refusal(Exception):
    """An action was refused.

    `detail` is one sentence that may be shown to the peer; `violations` holds every reason together (D1).
    `retry_after` is in seconds, set only where trying again can help.
    """

    def __init__(
        self,
        reason: RefusalReason,
        detail: str,
        *,
        violations: tuple[str, ...] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.violations = violations
        self.retry_after = retry_after
