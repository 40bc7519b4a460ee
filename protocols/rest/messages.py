"""The bodies of the REST API (D12, D13) as types: what is written here is what is accepted, and no more.

Shapes and lengths are checked by the decoder, meanings by `wishes`; nothing is judged here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocols.exchange import Malformed
from protocols.pkix import pem
from protocols.rest.needs import Certificate, RequestState

# No control characters: PostgreSQL refuses a NUL, some readers end a name at it; a line end forges a log line.
Text = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Value = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
# PEM of the largest request that is read; its lines and base64 add a good third.
CsrText = Annotated[str, Meta(min_length=1, max_length=32 * 1024)]
Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What every body has in common: camelCase names, and none that is not listed."""


class AltName(Body, frozen=True, kw_only=True):
    """A subject alternative name. `type` is DNS, IP, EMAIL or URI, or dns_name, ip_address, email or uri."""

    type: Text
    value: Text


class Metadatum(Body, frozen=True, kw_only=True):
    """A label that the certificate carries in the inventory."""

    key: Text
    value: Value


class Attributes(Body, frozen=True, kw_only=True):
    """What is asked of the certificate. A member that is left out takes the profile's default; null clears it (D5).

    `ttl` is a number with h, d, m (30 days) or y (365 days). Dates are RFC 3339, with their offset.
    """

    common_name: Text | UnsetType | None = UNSET
    organization: Text | UnsetType | None = UNSET
    organizational_unit: Text | UnsetType | None = UNSET
    country: Text | UnsetType | None = UNSET
    state: Text | UnsetType | None = UNSET
    locality: Text | UnsetType | None = UNSET
    domain_component: Text | UnsetType | None = UNSET
    serial_number: Text | UnsetType | None = UNSET
    alt_names: Annotated[list[AltName], Meta(max_length=100)] | UnsetType | None = UNSET
    key_algorithm: Text | UnsetType | None = UNSET
    key_usages: Annotated[list[Text], Meta(max_length=16)] | UnsetType | None = UNSET
    extended_key_usages: Annotated[list[Text], Meta(max_length=32)] | UnsetType | None = UNSET
    ttl: Text | UnsetType | None = UNSET
    not_before: Moment | UnsetType | None = UNSET
    not_after: Moment | UnsetType | None = UNSET


class Creation(Body, frozen=True, kw_only=True):
    """`POST /certificates`. With `csr` (PEM, or base64 of DER) the key and the names come from it."""

    profile_id: Text | UnsetType = UNSET
    profile_name: Text | UnsetType = UNSET
    application_id: Text | UnsetType = UNSET
    application_name: Text | UnsetType = UNSET
    csr: CsrText | UnsetType = UNSET
    attributes: Attributes = Attributes()
    metadata: Annotated[list[Metadatum], Meta(max_length=64)] | UnsetType = UNSET


class IssuedCertificate(Body, frozen=True, kw_only=True):
    """An issued certificate. `certificateChain` is PEM from the issuing CA up to and with the root."""

    certificate: str
    certificate_chain: str
    issuing_ca_certificate: str
    private_key: str | UnsetType = UNSET
    serial_number: str
    certificate_id: str


class Created(Body, frozen=True, kw_only=True):
    """The answer to `POST /certificates`. `certificate` is null while the request waits for approval."""

    certificate: IssuedCertificate | None
    certificate_request_id: str
    status: str
    message: str


class RequestView(Body, frozen=True, kw_only=True):
    """A certificate request as its owner sees it."""

    id: str
    status: str
    protocol: str
    application_id: str
    profile_id: str
    common_name: str
    created_at: datetime
    updated_at: datetime
    message: str
    certificate: IssuedCertificate | None


class One(Body, frozen=True, kw_only=True):
    """The answer to `GET /certificate-requests/{id}` and to cancel."""

    certificate_request: RequestView


class Page(Body, frozen=True, kw_only=True):
    """The answer to `GET /certificate-requests`. `totalCount` is of all pages."""

    certificate_requests: list[RequestView]
    total_count: int
    limit: int
    offset: int


_creation: Final = msgspec.json.Decoder(Creation)
_encoder: Final = msgspec.json.Encoder()

# How msgspec words its errors; a test holds it to that.
_AT: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_NAMED: Final = re.compile(r"Object (?:missing required|contains unknown) field `(?P<name>[^`]*)`")


def creation(body: bytes) -> Creation:
    """Decode the body of `POST /certificates`. Raises Malformed, with the path of the offending member."""
    try:
        return _creation.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("The body is not JSON in UTF-8.") from None


def _invalid(message: str) -> Malformed:
    match = _AT.fullmatch(message)
    assert match is not None
    path, what = match["path"] or "", match["what"]
    named = _NAMED.fullmatch(what)
    if named is None:
        return Malformed(f"{path or 'the body'}: {what}.", field=path or None)
    name = named["name"]
    field = f"{path}.{name}" if path else name
    if "missing" in what:
        return Malformed(f"{field}: required, and missing.", field=field)
    known = _MEMBERS[re.sub(r"\[\d*\.*\]", "[]", path)]
    return Malformed(f"{field}: there is no such member{nearest(name, known)}.", field=field)


_MEMBERS: Final = {
    "": Creation.__struct_encode_fields__,
    "attributes": Attributes.__struct_encode_fields__,
    "attributes.altNames[]": AltName.__struct_encode_fields__,
    "metadata[]": Metadatum.__struct_encode_fields__,
}


def nearest(given: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something known is near, else what is known."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given[:64].lower(), names, 1)
    return f"; did you mean {names[near[0]]}" if near else f"; known are {', '.join(names.values())}"


def encode(body: Created | One | Page) -> bytes:
    """A body as JSON."""
    return _encoder.encode(body)


def created(state: RequestState) -> Created:
    """What `POST /certificates` answers."""
    return Created(
        certificate=None if state.certificate is None else _issued(state.certificate),
        certificate_request_id=state.id,
        status=state.status,
        message=state.message,
    )


def view(state: RequestState) -> RequestView:
    """A certificate request as the API shows it."""
    return RequestView(
        id=state.id,
        status=state.status,
        protocol=state.protocol,
        application_id=state.application_id,
        profile_id=state.profile_id,
        common_name=state.common_name,
        created_at=state.created_at,
        updated_at=state.updated_at,
        message=state.message,
        certificate=None if state.certificate is None else _issued(state.certificate),
    )


def _issued(certificate: Certificate) -> IssuedCertificate:
    authorities = (*certificate.chain, certificate.root)
    key = certificate.private_key
    return IssuedCertificate(
        certificate=pem.encode(pem.CERTIFICATE, certificate.certificate).decode(),
        certificate_chain=pem.encode_certificates(authorities).decode(),
        issuing_ca_certificate=pem.encode(pem.CERTIFICATE, authorities[0]).decode(),
        private_key=UNSET if key is None else pem.encode("PRIVATE KEY", key).decode(),
        serial_number=certificate.serial,
        certificate_id=certificate.id,
    )
