"""The bodies of the REST API (D12, D13) as types: what is written here is what is accepted, and no more.

Shapes and lengths are checked by the decoder, meanings by `wishes`; nothing is judged here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocols.exchange import Malformed
from protocols.pkix import pem
from protocols.rest.needs import Certificate, CertificateState, RequestState, RevocationState

# No control characters: PostgreSQL refuses a NUL, some readers end a name at it; a line end forges a log line.
Text = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Value = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
# PEM of the largest request that is read; its lines and base64 add a good third.
CsrText = Annotated[str, Meta(min_length=1, max_length=32 * 1024)]
Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What every body has in common: camelCase names, and none that is not listed."""


_B = TypeVar("_B", bound=Body)


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


NO_ATTRIBUTES: Final = Attributes()
"""What a body has that leaves them out: this very object."""


class Creation(Body, frozen=True, kw_only=True):
    """`POST /certificates`. With `csr` (PEM, or base64 of DER) the key and the names come from it."""

    profile_id: Text | UnsetType = UNSET
    profile_name: Text | UnsetType = UNSET
    application_id: Text | UnsetType = UNSET
    application_name: Text | UnsetType = UNSET
    csr: CsrText | UnsetType = UNSET
    attributes: Attributes = NO_ATTRIBUTES
    metadata: Annotated[list[Metadatum], Meta(max_length=64)] | UnsetType = UNSET


class IssuedCertificate(Body, frozen=True, kw_only=True):
    """An issued certificate. `certificateChain` is PEM from the issuing CA up to and with the root.

    `Raw`: strings that are JSON already (`_string`).
    """

    certificate: msgspec.Raw
    certificate_chain: msgspec.Raw
    issuing_ca_certificate: msgspec.Raw
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


class Revocation(Body, frozen=True, kw_only=True):
    """`POST .../revoke`: why, in RFC 5280's words (5.3.1)."""

    revocation_reason: Text = "unspecified"


class Revoked(Body, frozen=True, kw_only=True):
    """The answer to it. `revocationReason` and `revokedAt` are null where a hold was released."""

    certificate_id: str | None
    serial_number: str
    revocation_reason: str | None
    revoked_at: datetime | None
    message: str


class CertificateView(Body, frozen=True, kw_only=True):
    """A certificate as the inventory knows it."""

    id: str
    serial_number: str
    status: str
    subject: str
    alt_names: list[AltName]
    not_before: datetime
    not_after: datetime
    fingerprint_sha1: str
    fingerprint_sha256: str
    key_algorithm: str
    signature_algorithm: str
    source: str
    application_id: str | None
    profile_id: str | None
    certificate_request_id: str | None
    protocol: str | None
    renewed_from: str | None
    renewed_by: str | None
    revoked_at: datetime | None
    revocation_reason: str | None
    metadata: list[Metadatum]


class OneCertificate(Body, frozen=True, kw_only=True):
    """The answer to `GET /certificates/{id}`."""

    certificate: CertificateView


REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "removeFromCRL",
    "privilegeWithdrawn",
    "aACompromise",
)

_creation: Final = msgspec.json.Decoder(Creation)
_revocation: Final = msgspec.json.Decoder(Revocation)
_encoder: Final = msgspec.json.Encoder()

# How msgspec words its errors; a test holds it to that.
_AT: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_NAMED: Final = re.compile(r"Object (?:missing required|contains unknown) field `(?P<name>[^`]*)`")


def creation(body: bytes) -> Creation:
    """Decode the body of `POST /certificates`. Raises Malformed, with the path of the offending member."""
    return _decode(_creation, body)


def revocation_reason(body: bytes) -> str:
    """The reason in the body of `POST .../revoke`; without a body it is unspecified. Raises Malformed."""
    reason = _decode(_revocation, body).revocation_reason if body else "unspecified"
    if reason not in REASONS:
        raise Malformed(f"revocationReason: unknown{nearest(reason, REASONS)}.", field="revocationReason")
    return reason


def _decode(decoder: msgspec.json.Decoder[_B], body: bytes) -> _B:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), _members(decoder.type)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("The body is not JSON in UTF-8.") from None


def _invalid(message: str, members: dict[str, tuple[str, ...]]) -> Malformed:
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
    known = members[re.sub(r"\[\d*\.*\]", "[]", path)]
    return Malformed(f"{field}: there is no such member{nearest(name, known)}.", field=field)


def _members(body: type[Body]) -> dict[str, tuple[str, ...]]:
    return {"": body.__struct_encode_fields__, **_INNER}


_INNER: Final = {
    "attributes": Attributes.__struct_encode_fields__,
    "attributes.altNames[]": AltName.__struct_encode_fields__,
    "metadata[]": Metadatum.__struct_encode_fields__,
}


def nearest(given: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something known is near, else what is known."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given[:64].lower(), names, 1)
    return f"; did you mean {names[near[0]]}" if near else f"; known are {', '.join(names.values())}"


def encode(body: Body) -> bytes:
    """A body as JSON."""
    return _encoder.encode(body)


def revoked(state: RevocationState) -> Revoked:
    """What `POST .../revoke` answers."""
    what = "the certificate is good again" if state.reason is None else "the certificate is revoked"
    return Revoked(
        certificate_id=state.certificate_id,
        serial_number=state.serial,
        revocation_reason=state.reason,
        revoked_at=state.revoked_at,
        message=f"{what}; the revocation list follows within seconds",
    )


def certificate_view(state: CertificateState) -> CertificateView:
    """A certificate as the API shows it."""
    return CertificateView(
        id=state.id,
        serial_number=state.serial,
        status=state.status,
        subject=state.subject,
        alt_names=[AltName(type=kind, value=value) for kind, value in state.sans],
        not_before=state.not_before,
        not_after=state.not_after,
        fingerprint_sha1=state.sha1,
        fingerprint_sha256=state.sha256,
        key_algorithm=state.key_algorithm,
        signature_algorithm=state.signature_algorithm,
        source=state.source,
        application_id=state.application_id,
        profile_id=state.profile_id,
        certificate_request_id=state.request_id,
        protocol=state.protocol,
        renewed_from=state.renewed_from,
        renewed_by=state.renewed_by,
        revoked_at=state.revoked_at,
        revocation_reason=state.revocation_reason,
        metadata=[Metadatum(key=key, value=value) for key, value in state.metadata],
    )


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
    chain, issuing = _authorities((*certificate.chain, certificate.root))
    key = certificate.private_key
    return IssuedCertificate(
        certificate=_string(pem.encode(pem.CERTIFICATE, certificate.certificate)),
        certificate_chain=chain,
        issuing_ca_certificate=issuing,
        private_key=UNSET if key is None else pem.encode("PRIVATE KEY", key).decode(),
        serial_number=certificate.serial,
        certificate_id=certificate.id,
    )


# As JSON and once: a few for each authority, written with every certificate that it issues.
@lru_cache(maxsize=256)
def _authorities(chain: tuple[bytes, ...]) -> tuple[msgspec.Raw, msgspec.Raw]:
    """All of a chain, and the authority that it begins with."""
    return _string(pem.encode_certificates(chain)), _string(pem.encode(pem.CERTIFICATE, chain[0]))


def _string(text: bytes) -> msgspec.Raw:
    """PEM as a string in JSON (RFC 8259, 7): nothing in it is to be escaped but line feeds.

    To have the encoder look for more, octet by octet, takes three times as long as all the rest of an answer.
    """
    return msgspec.Raw(b'"' + text.replace(b"\n", b"\\n") + b'"')
