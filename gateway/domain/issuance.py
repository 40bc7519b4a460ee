"""From a request to a plan: what exactly will be issued. Pure (D4, D5, D6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.policy import BasicConstraints
from gateway.domain.request import KeyUsage, Proof, PublicKey, San, SubjectAttribute


@dataclass(frozen=True, slots=True)
class Plan:
    """A certificate that has been judged and may be signed: what was judged is what is issued (D5).

    `serial` is positive with at least 64 random bits (D6), and reserved in the store before anything is signed.
    `san_critical` is true exactly where the subject is empty.
    """

    serial: int
    subject: tuple[SubjectAttribute, ...]
    sans: tuple[San, ...]
    san_critical: bool
    key: PublicKey
    key_usages: tuple[KeyUsage, ...]
    extended_key_usages: tuple[str, ...]
    basic_constraints: BasicConstraints
    not_before: datetime
    not_after: datetime
    proof: Proof
    judged_at: datetime


@dataclass(frozen=True, slots=True)
class Issued:
    """The outcome of an enrollment. `chain` is DER, the issuing authority first, without the root; `root` is DER."""

    certificate_id: str
    request_id: str
    serial: str
    certificate: bytes
    chain: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """The request was judged and waits: for an approval, or for the signer. `retry_after` is in seconds."""

    request_id: str
    retry_after: int
