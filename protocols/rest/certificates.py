"""The API's addresses of issued certificates: read and revoke (D14, D19). Each gives a whole reply to anything sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from protocols.exchange import Exchange, Malformed, Reason, Refused, Reply, ask
from protocols.rest import failures, messages
from protocols.rest.messages import Body, OneCertificate
from protocols.rest.needs import FindCertificate, RevocationState, RevokeCertificate, RevokeSerial

NOWHERE: Final = "There is no such certificate, or none that you may see."

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_AUTHORITY: Final = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
# As `openssl x509 -serial` prints it, or with the colons of `-text`; 20 bytes at most (RFC 5280, 4.1.2.2).
_SERIAL: Final = re.compile(r"[0-9A-Fa-f]{1,40}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){0,19}", re.ASCII)


def read(id: str) -> Exchange[Reply]:  # noqa: A002 - the API's own word, which the host passes by position
    """`GET /certificates/{id}`: what the inventory knows of it (D14)."""
    try:
        state = (yield from ask(FindCertificate(id))) if _ID.fullmatch(id) else None
        if state is None:
            raise Refused(Reason.NOT_FOUND, NOWHERE)
    except Refused as refusal:
        return failures.refused(refusal)
    return _json(OneCertificate(certificate=messages.certificate_view(state)))


def revoke(id: str, media_type: str | None, body: bytes) -> Exchange[Reply]:  # noqa: A002 - as above
    """`POST /certificates/{id}/revoke` with `revocationReason` (D14): the same again gives the same answer."""

    def wanted(reason: str) -> Exchange[RevocationState]:
        if not _ID.fullmatch(id):
            raise Refused(Reason.NOT_FOUND, NOWHERE)
        return (yield from ask(RevokeCertificate(id, reason)))

    return (yield from _revoked(media_type, body, wanted))


def revoke_serial(authority: str, serial: str, media_type: str | None, body: bytes) -> Exchange[Reply]:
    """`POST /authorities/{name}/serials/{serial}/revoke`: what may exist under a serial that nobody recorded (D19)."""

    def wanted(reason: str) -> Exchange[RevocationState]:
        if not _AUTHORITY.fullmatch(authority):
            raise Refused(Reason.NOT_FOUND, "There is no such authority.")
        number = int(serial.replace(":", ""), 16) if _SERIAL.fullmatch(serial) else 0
        if not 0 < number.bit_length() <= 159:
            raise Malformed("serial: must be a positive number of at most 20 bytes, in hex.", field="serial")
        return (yield from ask(RevokeSerial(authority, f"{number:x}", reason)))

    return (yield from _revoked(media_type, body, wanted))


def _revoked(
    media_type: str | None, body: bytes, wanted: Callable[[str], Exchange[RevocationState]]
) -> Exchange[Reply]:
    try:
        if body and (media_type is None or media_type.partition(";")[0].strip().lower() != "application/json"):
            return failures.problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", "Send the body as application/json."
            )
        state = yield from wanted(messages.revocation_reason(body))
    except Malformed as fault:
        return failures.malformed(fault)
    except Refused as refusal:
        return failures.refused(refusal)
    return _json(messages.revoked(state))


def _json(body: Body) -> Reply:
    return Reply(HTTPStatus.OK, messages.encode(body), "application/json", (("Cache-Control", "no-store"),))
