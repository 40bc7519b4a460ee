"""Audit: one event for every action, in the same commit as the action (D17)."""

from __future__ import annotations

from datetime import datetime

import msgspec


class AuditEvent(msgspec.Struct, frozen=True):
    """Who did what to which, from where, and how it ended. Secrets never appear in it.

    `actor` is `kind:name` (`token:admin`, `acme-account:…`, `est-user:…`, `system`); `action` is
    `noun.verb` (`certificate.issue`); `target` names the thing; `outcome` is `success` or `refused` or `failed`;
    `detail` is a short sentence; `source` the peer's address; `request_id` that of the HTTP request.
    """

    at: datetime
    actor: str
    action: str
    target: str
    outcome: str
    application_id: str | None = None
    detail: str = ""
    source: str = ""
    request_id: str = ""
