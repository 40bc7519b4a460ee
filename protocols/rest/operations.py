"""The API's enrollment addresses, one function each (D12, D13). Each gives a whole reply to whatever is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from msgspec import UNSET

from protocols.exchange import Exchange, Malformed, Reason, Refused, Reply, ask
from protocols.rest import failures, messages, wishes
from protocols.rest.messages import Created, Creation, One, Page
from protocols.rest.needs import (
    CancelRequest,
    EnrollWithCsr,
    EnrollWithManagedKey,
    FindRequest,
    PairReference,
    SearchRequests,
)

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
_MAX_OFFSET: Final = 2**31 - 1  # what both stores take for an OFFSET without a thought

STATUSES: Final = (
    "pending_approval",
    "approved",
    "signing",
    "issued",
    "failed",
    "rejected",
    "cancelled",
    "expired",
)
_PARAMETERS: Final = (
    "limit",
    "offset",
    "search",
    "status",
    "applicationId",
    "applicationName",
    "profileId",
    "profileName",
)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def create(media_type: str | None, body: bytes) -> Exchange[Reply]:
    """`POST /certificates`: for a CSR, or with a key that the server makes and gives out this once (D12)."""
    try:
        if media_type is None or media_type.partition(";")[0].strip().lower() != "application/json":
            return failures.problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", "Send the body as application/json."
            )
        state = yield from ask(_wanted(messages.creation(body)))
    except Malformed as fault:
        return failures.malformed(fault)
    except Refused as refusal:
        return failures.refused(refusal)
    return _json(messages.created(state))


def _wanted(asked: Creation) -> EnrollWithCsr | EnrollWithManagedKey:
    pair = wishes.pair(asked)
    if asked.csr is UNSET:
        return EnrollWithManagedKey(pair, wishes.wishes(asked))
    wished = wishes.beside_csr(asked)
    return EnrollWithCsr(pair, wishes.request(asked.csr), wished)


def read(id: str) -> Exchange[Reply]:  # noqa: A002 - the API's own word, which the host passes by position
    """`GET /certificate-requests/{id}`: the status, and the certificate once it is issued (D13)."""
    try:
        state = (yield from ask(FindRequest(id))) if _ID.fullmatch(id) else None
        if state is None:
            raise Refused(Reason.NOT_FOUND, "There is no such certificate request, or none that you may read.")
    except Refused as refusal:
        return failures.refused(refusal)
    return _json(One(certificate_request=messages.view(state)))


def search(query: str) -> Exchange[Reply]:
    """`GET /certificate-requests`: one page of what the caller may read. `query` is the undecoded query string."""
    try:
        wanted = _search(query)
        states, count = yield from ask(wanted)
    except Malformed as fault:
        return failures.malformed(fault)
    except Refused as refusal:
        return failures.refused(refusal)
    return _json(
        Page(
            certificate_requests=[messages.view(state) for state in states],
            total_count=count,
            limit=wanted.limit,
            offset=wanted.offset,
        )
    )


def cancel(id: str) -> Exchange[Reply]:  # noqa: A002 - the API's own word, which the host passes by position
    """`POST /certificate-requests/{id}/cancel`: while it waits for approval (D13)."""
    try:
        if not _ID.fullmatch(id):
            raise Refused(Reason.NOT_FOUND, "There is no such certificate request, or none that you may read.")
        state = yield from ask(CancelRequest(id))
    except Refused as refusal:
        return failures.refused(refusal)
    return _json(One(certificate_request=messages.view(state)))


def _search(query: str) -> SearchRequests:
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=len(_PARAMETERS))
    except ValueError:
        raise Malformed("The query string is not UTF-8, or has too many parameters.") from None
    for name, value in pairs:
        if name not in _PARAMETERS:
            raise Malformed(f"{name[:64]}: no such parameter{messages.nearest(name, _PARAMETERS)}.", field=name[:64])
        if name in found:
            raise Malformed(f"{name}: given twice.", field=name)
        if _CONTROL.search(value) or len(value) > 256:
            raise Malformed(f"{name}: longer than 256 characters, or with control characters.", field=name)
        found[name] = value
    status = found.get("status")
    if status is not None and status not in STATUSES:
        raise Malformed(f"status: unknown{messages.nearest(status, STATUSES)}.", field="status")
    return SearchRequests(
        limit=_number(found, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT),
        offset=_number(found, "offset", 0, _MAX_OFFSET, 0),
        search=found.get("search") or None,
        status=status,
        pair=PairReference(
            found.get("applicationId"),
            found.get("applicationName"),
            found.get("profileId"),
            found.get("profileName"),
        ),
    )


def _number(found: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    text = found.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not least <= int(text) <= most:
        raise Malformed(f"{name}: must be a number from {least} to {most}.", field=name)
    return int(text)


def _json(body: Created | One | Page) -> Reply:
    # A private key may be in it, and what a certificate was asked for is its owner's affair.
    return Reply(HTTPStatus.OK, messages.encode(body), "application/json", (("Cache-Control", "no-store"),))
