"""Certificates of the inventory. Never here: a way to change what was issued; only revocation and renewal are noted."""

from __future__ import annotations

from datetime import datetime

import msgspec

from gateway.domain.certificate import Certificate, SerialStatus
from gateway.domain.request import ProofKind, San
from gateway.domain.revocation import GOOD, UNKNOWN, RevocationReason, SerialKind, SerialState, reason_of
from gateway.store import outbox, revocations
from gateway.store.unit import Row, Unit, maybe_millis, millis, storable

encode_json = msgspec.json.Encoder().encode
decode_sans = msgspec.json.Decoder(tuple[San, ...]).decode
_decode_metadata = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


def encode_sans(sans: tuple[San, ...]) -> str:
    """Alternative names as JSON that both engines can keep and search."""
    try:
        text = encode_json(sans).decode()
        if text.isascii() and "\\u0000" not in text:  # what stands here is canonical: nearly always
            return text
    except UnicodeEncodeError:
        pass
    return encode_json(tuple(San(san.type, storable(san.value)) for san in sans)).decode()


def find(unit: Unit, certificate_id: str) -> Certificate | None:
    """The certificate with this id."""
    return _maybe(unit.one("certificates.find", id=certificate_id))


def find_for(
    unit: Unit, certificate_id: str, *, application_id: str, profile_id: str, kind: ProofKind, subject: str
) -> tuple[str, bytes] | None:
    """Issuer's id and DER of a certificate, if this pair issued it for a proof of this kind and subject."""
    row = unit.one(
        "certificates.find_for",
        id=certificate_id,
        application_id=application_id,
        profile_id=profile_id,
        proof_kind=kind.value,
        proof_subject=subject,
    )
    return None if row is None else (row.text("issuer_id"), row.blob("der"))


def find_by_sha256(unit: Unit, sha256: str, *, serial: str) -> Certificate | None:
    """The certificate of one of our authorities with this fingerprint, in lower-case hex, and this serial.

    It is looked up by its serial at each authority: an index of fingerprints, which are random, cost every certificate
    a page of its own to write.
    """
    return _maybe(unit.one("certificates.find_by_sha256", sha256=sha256, serial=serial))


def find_by_serial(unit: Unit, issuer_id: str, serial: str) -> Certificate | None:
    """The certificate with this serial of this issuer; lower-case hex without leading zeros."""
    return _maybe(unit.one("certificates.find_by_serial", issuer_id=issuer_id, serial=serial))


def status_of(unit: Unit, issuer_id: str, serial: str) -> SerialState:
    """What a relying party may be told of a serial; lower-case hex without leading zeros.

    A serial that is reserved or burnt may exist as a certificate that nobody recorded: it is unknown until someone
    revokes it, and never good. An expired certificate stays what it was.
    """
    row = unit.one("revocations.status", issuer_id=issuer_id, serial=serial)
    if row is None:
        return UNKNOWN
    code = row.maybe_integer("reason")
    if code is not None and (reason := reason_of(code)) is not RevocationReason.REMOVE_FROM_CRL:
        return SerialState(SerialKind.REVOKED, row.time("revoked_at"), reason)
    return GOOD if row.text("status") == SerialStatus.ISSUED else UNKNOWN


def record(unit: Unit, certificate: Certificate) -> None:
    """Take a certificate into the inventory that no request led to: of a ceremony, or imported.

    Raises:
        Duplicate: its issuer has a certificate, or a reserved serial, with its number already.
    """
    unit.run(
        "certificates.insert_serial",
        issuer_id=certificate.issuer_id,
        serial=certificate.serial,
        certificate_id=certificate.id,
        at=millis(certificate.created_at),
    )
    insert(unit, certificate)


def revoke(unit: Unit, certificate_id: str, *, reason: int, at: datetime) -> bool:
    """Note a revocation and its event; false if it is revoked already, or there is no such certificate."""
    found = find(unit, certificate_id)
    if found is None or found.revoked_at is not None:
        return False
    change_revocation(
        unit, found, reason_of(reason), since=at, at=at, revision=revocations.begin(unit, found.issuer_id)
    )
    return True


def change_revocation(
    unit: Unit, found: Certificate, reason: RevocationReason, *, since: datetime, at: datetime, revision: int
) -> None:
    """Revoke `found` since `since` for `reason`, whatever was said before; `REMOVE_FROM_CRL` makes it good again.

    The certificate's row, its issuer's lists and the event for alerts and webhooks change in this unit. `revision` is
    what `revocations.begin` gave.
    """
    released = reason is RevocationReason.REMOVE_FROM_CRL
    unit.run(
        "certificates.revoke",
        id=found.id,
        reason=None if released else reason.code,
        at=None if released else millis(since),
    )
    revocations.put(
        unit,
        issuer_id=found.issuer_id,
        serial=found.serial,
        reason=reason,
        at=since,
        not_after=found.not_after,
        partition=found.crl_partition,
        revision=revision,
    )
    outbox.append(
        unit,
        kind=outbox.CERTIFICATE_RELEASED if released else outbox.CERTIFICATE_REVOKED,
        application_id=found.application_id,
        subject_id=found.id,
        at=at,
        revision=revision,
    )


def insert(unit: Unit, certificate: Certificate) -> None:
    """Write the row alone; its serial is the caller's affair. Raises Duplicate."""
    unit.run(
        "certificates.insert",
        id=certificate.id,
        issuer_id=certificate.issuer_id,
        serial=certificate.serial,
        der=certificate.der,
        subject=storable(certificate.subject),
        sans=encode_sans(certificate.sans),
        not_before=millis(certificate.not_before),
        not_after=millis(certificate.not_after),
        sha1=certificate.sha1,
        sha256=certificate.sha256,
        spki_sha256=certificate.spki_sha256,
        key_algorithm=certificate.key_algorithm,
        signature_algorithm=certificate.signature_algorithm,
        source=certificate.source,
        created_at=millis(certificate.created_at),
        application_id=certificate.application_id,
        profile_id=certificate.profile_id,
        request_id=certificate.request_id,
        protocol=certificate.protocol,
        renewed_from=certificate.renewed_from,
        renewed_by=certificate.renewed_by,
        revoked_at=maybe_millis(certificate.revoked_at),
        revocation_reason=certificate.revocation_reason,
        metadata=encode_json(certificate.metadata).decode(),
        managed_key=certificate.managed_key,
        crl_partition=certificate.crl_partition,
    )


def certificate(row: Row) -> Certificate:
    """The certificate of a whole row of its table."""
    return Certificate(
        id=row.text("id"),
        serial=row.text("serial"),
        issuer_id=row.text("issuer_id"),
        der=row.blob("der"),
        subject=row.text("subject"),
        sans=decode_sans(row.text("sans")),
        not_before=row.time("not_before"),
        not_after=row.time("not_after"),
        sha1=row.text("sha1"),
        sha256=row.text("sha256"),
        spki_sha256=row.text("spki_sha256"),
        key_algorithm=row.text("key_algorithm"),
        signature_algorithm=row.text("signature_algorithm"),
        source=row.text("source"),
        created_at=row.time("created_at"),
        application_id=row.maybe_text("application_id"),
        profile_id=row.maybe_text("profile_id"),
        request_id=row.maybe_text("request_id"),
        protocol=row.maybe_text("protocol"),
        renewed_from=row.maybe_text("renewed_from"),
        renewed_by=row.maybe_text("renewed_by"),
        revoked_at=row.maybe_time("revoked_at"),
        revocation_reason=row.maybe_integer("revocation_reason"),
        metadata=_decode_metadata(row.text("metadata")),
        managed_key=row.maybe_blob("managed_key"),
        crl_partition=row.maybe_integer("crl_partition"),
    )


def _maybe(row: Row | None) -> Certificate | None:
    return None if row is None else certificate(row)
