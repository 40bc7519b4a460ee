"""A certificate request as the product sees it: what is asked, by whom, and what authorized it.

Whatever the protocol, a front builds an `EnrollmentRequest` and `actions/enroll` judges it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import Enum, StrEnum, unique
from typing import Final

import msgspec


class Unset(Enum):
    """The request does not speak of this at all, so a profile's default applies (D5). `None` clears it."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@unique
class Protocol(StrEnum):
    """The doors of enrollment. A pair enables each of them separately."""

    API = "api"
    ACME = "acme"
    EST = "est"
    SCEP = "scep"


@unique
class SubjectType(StrEnum):
    """Attribute types of a distinguished name that a policy can speak of."""

    COMMON_NAME = "common_name"
    ORGANIZATION = "organization"
    ORGANIZATIONAL_UNIT = "organizational_unit"
    COUNTRY = "country"
    STATE = "state"
    LOCALITY = "locality"
    DOMAIN_COMPONENT = "domain_component"
    SERIAL_NUMBER = "serial_number"


SUBJECT_OIDS: Final[dict[SubjectType, str]] = {
    SubjectType.COMMON_NAME: "2.5.4.3",
    SubjectType.ORGANIZATION: "2.5.4.10",
    SubjectType.ORGANIZATIONAL_UNIT: "2.5.4.11",
    SubjectType.COUNTRY: "2.5.4.6",
    SubjectType.STATE: "2.5.4.8",
    SubjectType.LOCALITY: "2.5.4.7",
    SubjectType.DOMAIN_COMPONENT: "0.9.2342.19200300.100.1.25",
    SubjectType.SERIAL_NUMBER: "2.5.4.5",
}
"""RFC 5280, 4.1.2.4 and RFC 4519: the attribute types by their OIDs."""

# RFC 4514, section 3, with serialNumber by RFC 4519's name, which every reader prints.
_SHORT_NAMES: Final[dict[SubjectType, str]] = {
    SubjectType.COMMON_NAME: "CN",
    SubjectType.ORGANIZATION: "O",
    SubjectType.ORGANIZATIONAL_UNIT: "OU",
    SubjectType.COUNTRY: "C",
    SubjectType.STATE: "ST",
    SubjectType.LOCALITY: "L",
    SubjectType.DOMAIN_COMPONENT: "DC",
    SubjectType.SERIAL_NUMBER: "serialNumber",
}


@unique
class SanType(StrEnum):
    """Kinds of subject alternative name that a policy can speak of."""

    DNS_NAME = "dns_name"
    IP_ADDRESS = "ip_address"
    EMAIL = "email"
    URI = "uri"
    UPN = "upn"


@unique
class KeyAlgorithm(StrEnum):
    """Public keys that a certificate may carry, spelled as in the REST API (D12).

    RSA sizes without a name of their own are judged by `RSA_OTHER` with the size beside it.
    """

    RSA_2048 = "RSA_2048"
    RSA_3072 = "RSA_3072"
    RSA_4096 = "RSA_4096"
    RSA_OTHER = "RSA_OTHER"
    EC_P256 = "EC_prime256v1"
    EC_P384 = "EC_secp384r1"
    EC_P521 = "EC_secp521r1"
    ED25519 = "ED25519"
    ED448 = "ED448"
    ML_DSA_44 = "ML-DSA-44"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"


@unique
class KeyUsage(StrEnum):
    """RFC 5280, 4.2.1.3, in the order of the bits."""

    DIGITAL_SIGNATURE = "digitalSignature"
    CONTENT_COMMITMENT = "nonRepudiation"
    KEY_ENCIPHERMENT = "keyEncipherment"
    DATA_ENCIPHERMENT = "dataEncipherment"
    KEY_AGREEMENT = "keyAgreement"
    KEY_CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"
    ENCIPHER_ONLY = "encipherOnly"
    DECIPHER_ONLY = "decipherOnly"


class SubjectAttribute(msgspec.Struct, frozen=True):
    """One attribute of a subject; the order of attributes in a request is kept."""

    type: SubjectType
    value: str


# Letters and digits of any script, and what stands in host names, addresses and serial numbers: nothing to escape.
_PLAIN: Final = re.compile(r"[\w.:@/*-]+")


def distinguished_name(attributes: tuple[SubjectAttribute, ...]) -> str:
    """The subject as an RFC 4514 string: the last attribute first, special characters escaped (section 2.4)."""
    return ",".join([f"{_SHORT_NAMES[each.type]}={_escaped(each.value)}" for each in reversed(attributes)])


def _escaped(value: str) -> str:
    if _PLAIN.fullmatch(value):  # nearly every value; the loop below costs more than all the rest
        return value
    text = "".join("\\" + c if c in '"+,;<>\\' else "\\00" if c == "\0" else c for c in value)
    if text[:1] in ("#", " "):
        text = "\\" + text
    if len(value) > 1 and value.endswith(" "):
        text = text[:-1] + "\\ "
    return text


class San(msgspec.Struct, frozen=True):
    """One subject alternative name in its canonical text form.

    A-labels in lower case; addresses as `ipaddress` prints them; e-mail with a lower-case domain; a normalised URI.
    """

    type: SanType
    value: str


class PublicKey(msgspec.Struct, frozen=True):
    """The key that the certificate will carry. `spki` is DER; `fingerprint` its SHA-256, in lower-case hex."""

    algorithm: KeyAlgorithm
    bits: int
    spki: bytes
    fingerprint: str


class Proof(msgspec.Struct, frozen=True):
    """What authorized a request (D8). The signer checks that it is present and of a method that the pair enables.

    `kind` is one of the constants below; `subject` names the account, user or machine identity, or the
    certificate presented; `evidence` lists what was relied on (authorization ids, a challenge's id, a
    certificate's serial); `request_hash` is the SHA-256 of the CSR, or of the public key where there is none.
    """

    protocol: Protocol
    kind: ProofKind
    subject: str
    request_hash: bytes
    evidence: tuple[str, ...] = ()


@unique
class ProofKind(StrEnum):
    """Every way in which a request can be authorized, each with the one protocol that it belongs to."""

    ACME_ORDER = "acme-order"
    EST_PASSPHRASE = "est-passphrase"  # noqa: S105, a kind of proof and no secret
    EST_CERTIFICATE = "est-certificate"
    SCEP_CHALLENGE = "scep-challenge"
    SCEP_CERTIFICATE = "scep-certificate"
    API_TOKEN = "api-token"  # noqa: S105, a kind of proof and no secret


PROOF_PROTOCOL: Final[dict[ProofKind, Protocol]] = {
    ProofKind.ACME_ORDER: Protocol.ACME,
    ProofKind.EST_PASSPHRASE: Protocol.EST,
    ProofKind.EST_CERTIFICATE: Protocol.EST,
    ProofKind.SCEP_CHALLENGE: Protocol.SCEP,
    ProofKind.SCEP_CERTIFICATE: Protocol.SCEP,
    ProofKind.API_TOKEN: Protocol.API,
}


class EnrollmentRequest(msgspec.Struct, frozen=True):
    """Everything that a certificate request says, before policy and defaults.

    `csr` is the DER of the PKCS#10, None for a managed key. `signature_algorithm` is the CSR's, by its
    dotted OID, None without a CSR. `deduplication` makes the same ask of the same pair one request: a
    second one with an equal value gets the first one's certificate (S79, S83, A82).
    """

    proof: Proof
    key: PublicKey
    subject: tuple[SubjectAttribute, ...] | Unset | None = UNSET
    sans: tuple[San, ...] | Unset | None = UNSET
    key_usages: tuple[KeyUsage, ...] | Unset | None = UNSET
    extended_key_usages: tuple[str, ...] | Unset | None = UNSET
    ttl: timedelta | Unset | None = UNSET
    not_before: datetime | None = None
    not_after: datetime | None = None
    csr: bytes | None = None
    deduplication: bytes | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    renewed_from: str | None = None
    managed_key: bytes | None = None  # the private key as the signer sealed it; never in the clear


@unique
class RequestStatus(StrEnum):
    """The life of a certificate request, whatever the protocol. The same names stand in the store's CHECK."""

    PENDING_APPROVAL = "pending_approval"
    APPROVED = "approved"
    SIGNING = "signing"
    ISSUED = "issued"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


# `failed` is left once more: the same ask may be planned again, under a new serial.
REQUEST_TRANSITIONS: Final[dict[RequestStatus, frozenset[RequestStatus]]] = {
    RequestStatus.PENDING_APPROVAL: frozenset(
        {RequestStatus.APPROVED, RequestStatus.REJECTED, RequestStatus.CANCELLED, RequestStatus.EXPIRED}
    ),
    RequestStatus.APPROVED: frozenset({RequestStatus.SIGNING, RequestStatus.CANCELLED, RequestStatus.FAILED}),
    RequestStatus.SIGNING: frozenset({RequestStatus.ISSUED, RequestStatus.FAILED}),
    RequestStatus.FAILED: frozenset({RequestStatus.SIGNING}),
    RequestStatus.ISSUED: frozenset(),
    RequestStatus.REJECTED: frozenset(),
    RequestStatus.CANCELLED: frozenset(),
    RequestStatus.EXPIRED: frozenset(),
}


class CertificateRequest(msgspec.Struct, frozen=True):
    """One attempt to get a certificate, as the store keeps it. Times are aware, in UTC.

    `failure` is the sentence shown to whoever may read the request, where it failed or was rejected.
    """

    id: str
    application_id: str
    profile_id: str
    protocol: Protocol
    status: RequestStatus
    proof_kind: ProofKind
    proof_subject: str
    subject: str
    sans: tuple[San, ...]
    created_at: datetime
    updated_at: datetime
    certificate_id: str | None = None
    failure: str | None = None
