"""Certificate revocation lists (RFC 5280, section 5): built and signed by the issuer itself. No list is kept here."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from signer.contract.messages import SignCrl
from signer.contract.refusal import SignerRefusal
from signer.issuance.issuer import Issuer
from signer.issuance.refused import Refused
from signer.issuance.template import instant

MAX_VALIDITY: Final = 400 * 86400  # seconds; an offline root publishes once a year
_NUMBER_BITS: Final = 159  # RFC 5280, 5.2.3: 20 octets
_LAST_SECOND: Final = 253_402_300_799  # the end of GeneralizedTime
_DAY: Final = 86400  # seconds; clocks of several gateways differ, by less

# RFC 5280, 5.3.1. 7 is not used, 8 belongs to delta lists; 0 is left out instead of said.
_REASONS: Final[dict[int, x509.ReasonFlags]] = {
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    6: x509.ReasonFlags.certificate_hold,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}
_EXTENSIONS: Final = {code: x509.CRLReason(reason) for code, reason in _REASONS.items()}


def sign_crl(issuer: Issuer, ask: SignCrl) -> bytes:
    """The list of `ask`, signed by `issuer`, DER. Raises `Refused` (CEILING, LINT)."""
    if not issuer.signs_lists:
        raise Refused(SignerRefusal.CEILING, "this issuer's certificate does not let it sign revocation lists")
    if not 0 <= ask.number < 1 << _NUMBER_BITS:
        raise Refused(SignerRefusal.LINT, "the list's number does not fit into 20 bytes (RFC 5280, 5.2.3)")
    if not 0 <= ask.this_update < ask.next_update <= min(ask.this_update + MAX_VALIDITY, _LAST_SECOND):
        raise Refused(SignerRefusal.LINT, "the list's next update does not follow within 400 days")
    number = x509.CRLNumber(ask.number)
    # Through the constructor: each call of the builder's method copies the whole list.
    builder = x509.CertificateRevocationListBuilder(
        issuer.name,
        instant(ask.this_update).replace(tzinfo=None),
        instant(ask.next_update).replace(tzinfo=None),
        [issuer.identifier, x509.Extension(number.oid, False, number)],
        _entries(ask),
    )
    return builder.sign(issuer.private_key, issuer.digest).public_bytes(Encoding.DER)


def _entries(ask: SignCrl) -> list[x509.RevokedCertificate]:
    entries: list[x509.RevokedCertificate] = []
    seen: set[int] = set()
    for octets, when, reason in ask.revoked:
        serial = int.from_bytes(octets, "big")
        if not 0 < serial.bit_length() <= _NUMBER_BITS or serial in seen:
            raise Refused(SignerRefusal.LINT, f"the serial number {serial:x} is impossible or listed twice")
        if not 0 <= when <= ask.this_update + _DAY:
            raise Refused(SignerRefusal.LINT, f"the serial number {serial:x} is revoked at an impossible time")
        if reason and reason not in _EXTENSIONS:
            raise Refused(SignerRefusal.LINT, f"the reason {reason} has no place in a full list (RFC 5280, 5.3.1)")
        seen.add(serial)
        entry = x509.RevokedCertificateBuilder(serial, instant(when).replace(tzinfo=None))
        if reason:
            entry = entry.add_extension(_EXTENSIONS[reason], critical=False)
        entries.append(entry.build())
    return entries
