"""Everything that SCEP can make this server do. A closed list."""

from __future__ import annotations

import msgspec

from protocols.exchange import Need
from protocols.pkix.csr import CertificationRequest


class CaCertificates(Need["Authorities"], msgspec.Struct, frozen=True):
    """The certificates that SCEP clients must know."""


class Authorities(msgspec.Struct, frozen=True):
    """DER. `ra` is the RSA certificate that clients encrypt to and that signs replies; `chain` is the issuing
    authority and all above it, the root last.
    """

    ra: bytes
    chain: tuple[bytes, ...]


class UnwrapKey(Need[bytes], msgspec.Struct, frozen=True):
    """Unwrap a content-encryption key with the RA's key.

    `algorithm` is `pkcs1v15`, `oaep-sha1` or `oaep-sha256`. Bad padding answers `length` random bytes (S122).
    Refused: BUSY, UNAVAILABLE.
    """

    wrapped: bytes
    algorithm: str
    length: int


class SignAttributes(Need[bytes], msgspec.Struct, frozen=True):
    """Sign the DER SET OF of signed attributes with the RA's key. `digest`: sha1, sha256, sha384, sha512.

    `failure`: of a CertRep that says no more than that; the host may have no time for it (S120).
    """

    attributes: bytes
    digest: str
    failure: bool = False


class Transaction(msgspec.Struct, frozen=True):
    """Which transaction a message belongs to: the id's exact bytes and the SHA-256 of the signer's public key."""

    id: bytes
    signer: bytes


class Enrolled(msgspec.Struct, frozen=True):
    """The outcome of an enrollment. `include` is the DER of what goes beside the leaf, by the pair's settings."""

    certificate: bytes
    include: tuple[bytes, ...]


class Waiting(msgspec.Struct, frozen=True):
    """The request waits; the client polls."""


class Enroll(Need[Enrolled | Waiting], msgspec.Struct, frozen=True):
    """PKCSReq: check the challenge, judge and issue; the same transaction again gives the same certificate (S79).

    Refused: UNAUTHENTICATED (wrong or missing challenge), POLICY, BAD_KEY, BUSY, UNAVAILABLE.
    """

    csr: CertificationRequest
    challenge: str | None
    transaction: Transaction


class Renew(Need[Enrolled | Waiting], msgspec.Struct, frozen=True):
    """RenewalReq: the signer's certificate (DER) is of this pair, in force and not revoked, and names the same subject.

    Refused: FORBIDDEN, REVOKED, EXPIRED, NAME_MISMATCH, POLICY, BAD_KEY, BUSY, UNAVAILABLE.
    """

    csr: CertificationRequest
    certificate: bytes
    transaction: Transaction
