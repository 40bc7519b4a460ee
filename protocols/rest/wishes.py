"""From the words of a request body to what is meant by them: names, usages, times. No policy judges here."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import UNSET, UnsetType

from protocols.exchange import Malformed
from protocols.pkix import csr, extensions, names, pem
from protocols.pkix.csr import CertificationRequest
from protocols.pkix.names import AlternativeName, Attribute
from protocols.rest.messages import NO_ATTRIBUTES, AltName, Attributes, Creation, nearest
from protocols.rest.needs import PairReference, Wishes

KEY_ALGORITHMS: Final = (
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "EC_prime256v1",
    "EC_secp384r1",
    "EC_secp521r1",
    "ED25519",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
)

# In the order in which a subject is usually written, the widest first; each member's name and its OID.
_SUBJECT: Final = (
    ("country", "2.5.4.6"),
    ("state", "2.5.4.8"),
    ("locality", "2.5.4.7"),
    ("domainComponent", "0.9.2342.19200300.100.1.25"),
    ("organization", "2.5.4.10"),
    ("organizationalUnit", "2.5.4.11"),
    ("serialNumber", "2.5.4.5"),
    ("commonName", "2.5.4.3"),
)

# D12: with a CSR, everything else comes from it.
_BESIDE_A_CSR: Final = frozenset({"ttl", "notBefore", "notAfter", "metadata"})

_NO_WISHES: Final = Wishes(given=frozenset())

_TTL: Final = re.compile(r"([0-9]{1,5})([hdmy])", re.ASCII)
_UNITS: Final = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "m": timedelta(days=30),
    "y": timedelta(days=365),
}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


# Each usage by the RFC's name and by the spelling with underscores, which integrations send too.
_KEY_USAGES: Final[Mapping[str, str]] = {
    written: name for attribute, name in extensions.KEY_USAGES for written in (name, attribute, _snake(name))
}
_EXTENDED: Final[Mapping[str, str]] = {
    written: oid for name, oid in extensions.EXTENDED_KEY_USAGES.items() for written in (name, _snake(name))
}
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,9})){1,15}", re.ASCII)


def pair(body: Creation) -> PairReference:
    """Which pair is meant. Raises Malformed unless application and profile are given, by id or by name."""
    application = _one_of("applicationId", body.application_id, "applicationName", body.application_name)
    profile = _one_of("profileId", body.profile_id, "profileName", body.profile_name)
    return PairReference(*application, *profile)


def _one_of(
    id_member: str, by_id: str | UnsetType, name_member: str, by_name: str | UnsetType
) -> tuple[str | None, str | None]:
    if (by_id is UNSET) == (by_name is UNSET):
        raise Malformed(f"{id_member}: give either {id_member} or {name_member}.", field=id_member)
    return (None if by_id is UNSET else by_id), (None if by_name is UNSET else by_name)


def request(text: str) -> CertificationRequest:
    """The certification request of a body: PEM, or base64 of DER. Raises Malformed (field `csr`), Refused."""
    try:
        octets = text.encode("ascii")
        if octets.lstrip().startswith(b"-----BEGIN"):
            return csr.parse(pem.decode_request(octets, limit=len(octets)))
        return csr.parse(binascii.a2b_base64(b"".join(octets.split()), strict_mode=True))
    except ValueError:
        raise Malformed("csr: neither PEM nor base64 of a PKCS#10 request.", field="csr") from None
    except Malformed as fault:
        raise Malformed(f"csr: {fault.detail}", field="csr") from None


def beside_csr(body: Creation) -> Wishes:
    """What the body asks for beside its CSR. Raises Malformed, with the member's path."""
    # Hardly anybody asks for more; to look at each member takes ten times as long.
    if body.attributes is NO_ATTRIBUTES and body.metadata is UNSET:
        return _NO_WISHES
    given, metadata = _given(body), _metadata(body)
    if surplus := sorted(given - _BESIDE_A_CSR):
        field = f"attributes.{surplus[0]}"
        raise Malformed(
            f"{field}: comes from the csr; only ttl, notBefore, notAfter and metadata go with one.", field=field
        )
    not_before, not_after, ttl = _validity(body.attributes)
    return Wishes(given=given, ttl=ttl, not_before=not_before, not_after=not_after, metadata=metadata)


def wishes(body: Creation) -> Wishes:
    """What the body asks for where it has no CSR. Raises Malformed, with the member's path."""
    asked = body.attributes
    not_before, not_after, ttl = _validity(asked)
    return Wishes(
        given=_given(body),
        subject=_subject(asked),
        sans=tuple(_alternative_name(name, at) for at, name in enumerate(asked.alt_names or ())),
        key_usages=_usages("keyUsages", asked.key_usages, _key_usage),
        extended_key_usages=_usages("extendedKeyUsages", asked.extended_key_usages, _extended_key_usage),
        ttl=ttl,
        not_before=not_before,
        not_after=not_after,
        key_algorithm=_key_algorithm(asked.key_algorithm),
        metadata=_metadata(body),
    )


def _given(body: Creation) -> frozenset[str]:
    """The names of the members that the body has, null or not."""
    asked = body.attributes
    given = set() if body.metadata is UNSET else {"metadata"}
    members = zip(asked.__struct_encode_fields__, asked.__struct_fields__, strict=True)
    given.update(written for written, member in members if getattr(asked, member) is not UNSET)
    return frozenset(given)


def _metadata(body: Creation) -> tuple[tuple[str, str], ...]:
    return () if body.metadata is UNSET else tuple((each.key, each.value) for each in body.metadata)


def _subject(asked: Attributes) -> tuple[Attribute, ...]:
    values = {
        "country": asked.country,
        "state": asked.state,
        "locality": asked.locality,
        "domainComponent": asked.domain_component,
        "organization": asked.organization,
        "organizationalUnit": asked.organizational_unit,
        "serialNumber": asked.serial_number,
        "commonName": asked.common_name,
    }
    return tuple(Attribute(oid, value) for member, oid in _SUBJECT if (value := values[member]))


def _validity(asked: Attributes) -> tuple[datetime | None, datetime | None, timedelta | None]:
    not_before, not_after = _moment("notBefore", asked.not_before), _moment("notAfter", asked.not_after)
    ttl = _ttl(asked.ttl) if asked.ttl else None
    if ttl is not None and not_after is not None:
        raise Malformed("attributes.ttl: give either ttl or notAfter.", field="attributes.ttl")
    if not_before is not None and not_after is not None and not_before >= not_after:
        raise Malformed("attributes.notAfter: is not after notBefore.", field="attributes.notAfter")
    return not_before, not_after, ttl


def _moment(member: str, written: datetime | UnsetType | None) -> datetime | None:
    """In UTC. A moment of the year 0 or 10000 is one that only its offset keeps within the calendar."""
    if written is UNSET or written is None:
        return None
    try:
        return written.astimezone(UTC)
    except OverflowError:
        field = f"attributes.{member}"
        raise Malformed(f"{field}: lies outside the years 1 to 9999 of UTC.", field=field) from None


def _ttl(text: str) -> timedelta:
    match = _TTL.fullmatch(text)
    if match is None or not int(match[1]):
        raise Malformed(
            "attributes.ttl: write a number above 0 with h, d, m (30 days) or y (365 days), such as 90d.",
            field="attributes.ttl",
        )
    return int(match[1]) * _UNITS[match[2]]


def _key_algorithm(name: str | UnsetType | None) -> str | None:
    if not name:
        return None
    if name not in KEY_ALGORITHMS:
        field = "attributes.keyAlgorithm"
        raise Malformed(f"{field}: unknown{nearest(name, KEY_ALGORITHMS)}.", field=field)
    return name


def _usages(
    member: str, written: Iterable[str] | UnsetType | None, meaning: Callable[[str, str], str]
) -> tuple[str, ...] | None:
    """The usages, each once; None where they were left out or cleared."""
    if written is UNSET or written is None:
        return None
    return tuple(dict.fromkeys(meaning(name, f"attributes.{member}[{at}]") for at, name in enumerate(written)))


def _key_usage(name: str, field: str) -> str:
    meant = _KEY_USAGES.get(name)
    if meant is None:
        raise Malformed(f"{field}: unknown{nearest(name, (name for _, name in extensions.KEY_USAGES))}.", field=field)
    return meant


def _extended_key_usage(name: str, field: str) -> str:
    if _OID.fullmatch(name):
        return name
    meant = _EXTENDED.get(name)
    if meant is None:
        raise Malformed(f"{field}: unknown{nearest(name, extensions.EXTENDED_KEY_USAGES)}.", field=field)
    return meant


def _email(value: str) -> str:
    local, _, domain = value.rpartition("@")
    if not local or not domain or not value.isascii() or " " in value:
        raise ValueError("is not a mailbox name@domain in ASCII")
    return names.canonical_email(value)


def _uri(value: str) -> str:
    scheme, colon, rest = value.partition(":")
    if not scheme or not colon or not rest or not value.isascii() or " " in value:
        raise ValueError("is not an absolute URI in ASCII")
    return names.canonical_uri(value)


_NAME_TYPES: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "DNS": (names.DNS_NAME, names.canonical_dns),
    "IP": (names.IP_ADDRESS, names.canonical_ip),
    "EMAIL": (names.EMAIL, _email),
    "URI": (names.URI, _uri),
    "dns_name": (names.DNS_NAME, names.canonical_dns),
    "ip_address": (names.IP_ADDRESS, names.canonical_ip),
    "email": (names.EMAIL, _email),
    "uri": (names.URI, _uri),
}


def _alternative_name(name: AltName, at: int) -> AlternativeName:
    field = f"attributes.altNames[{at}]"
    row = _NAME_TYPES.get(name.type)
    if row is None:
        raise Malformed(f"{field}.type: unknown{nearest(name.type, _NAME_TYPES)}.", field=f"{field}.type")
    kind, canonical = row
    try:
        return AlternativeName(kind, canonical(name.value))
    except ValueError as fault:
        raise Malformed(f"{field}.value: {fault}.", field=f"{field}.value") from None
