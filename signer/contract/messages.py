"""What may be asked of the signer, and what it answers. Structured verbs only; none means "sign these bytes".

msgpack arrays through msgspec, tagged by name. Append fields at the end, with a default; never reorder, never
reuse a tag. `VERSION` changes when an old peer would misread a new frame.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from signer.contract.refusal import SignerRefusal

VERSION = 1


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything on this wire."""


class Proof(Message, frozen=True):
    """What authorized an issuance (D8): checked here to be present and of a method that the pair enables."""

    protocol: str
    kind: str
    subject: str
    request_hash: bytes
    enabled: list[str]  # the pair's enabled protocols


class GeneralName(Message, frozen=True):
    """A subject alternative name. `type` is one of dns_name, ip_address, email, uri, upn."""

    type: str
    value: str


class IssueCertificate(Message, frozen=True, tag="issue-certificate"):
    """Build, check and sign one certificate.

    Times are whole seconds since the epoch. `subject` is (dotted OID, value) in order. `extended_key_usages`
    are dotted OIDs; `key_usages` RFC 5280's names. `serial` is big-endian, positive, 8..20 bytes. `ticket` is good for
    one signature until `deadline`.
    """

    issuer: str
    ticket: bytes
    deadline: int
    serial: bytes
    spki: bytes
    subject: list[tuple[str, str]]
    sans: list[GeneralName]
    san_critical: bool
    key_usages: list[str]
    extended_key_usages: list[str]
    not_before: int
    not_after: int
    proof: Proof | None
    ca: bool = False
    path_length: int | None = None
    crl_urls: list[str] = []
    issuer_urls: list[str] = []
    ocsp_urls: list[str] = []


class UnwrapKey(Message, frozen=True, tag="unwrap-key"):
    """Unwrap a content-encryption key with an RA's RSA key (RFC 5652, 6.2.1).

    `algorithm` is `pkcs1v15`, `oaep-sha1` or `oaep-sha256`. For `pkcs1v15` a padding failure is answered with `length`
    random bytes, so that nobody learns from it (implicit rejection).
    """

    ra: str
    wrapped: bytes
    algorithm: str
    length: int


class SignAttributes(Message, frozen=True, tag="sign-attributes"):
    """Sign the DER SET OF of CMS signed attributes with an RA's key (RFC 5652, 5.4).

    `attributes` must parse as a SET OF Attribute with a contentType and a messageDigest: that alone is signed, never
    bytes of another shape. `digest` is `sha256`, `sha384`, `sha512` or `sha1`.
    """

    ra: str
    attributes: bytes
    digest: str


class SignCrl(Message, frozen=True, tag="sign-crl"):
    """Build and sign a certificate revocation list. `revoked` is (serial, when, reason).

    Long lists are `packed` instead: see `entries`. With `distribution_points` the list is a partition's (RFC 5280,
    5.2.5), with `base_number` a delta to the list of that number (5.2.4); `freshest` says where its delta is (5.2.6).
    """

    issuer: str
    number: int
    this_update: int
    next_update: int
    revoked: list[tuple[bytes, int, int]]
    distribution_points: list[str] = []
    base_number: int | None = None
    freshest: list[str] = []
    packed: bytes = b""


class OcspEntry(Message, frozen=True):
    """What is said of one certificate (RFC 6960, 4.2.1).

    `digest` (`sha1`, `sha256`, `sha384`, `sha512`) is that of the CertID; `parameters` whether its AlgorithmIdentifier
    has a NULL, as the request had. `serial` is the content of the INTEGER, in its shortest form. `status` is `good`,
    `revoked` (since `revoked_at`, for `reason` of RFC 5280, 5.3.1) or `unknown`. Hashes are given for a certificate of
    another issuer only, of which nothing but `unknown` is ever signed.
    """

    digest: str
    serial: bytes
    status: str
    revoked_at: int = 0
    reason: int = 0
    parameters: bool = True
    name_hash: bytes = b""
    key_hash: bytes = b""


class SignOcsp(Message, frozen=True, tag="sign-ocsp"):
    """Build an OCSP response and sign it with the key of this worker's own responder for `issuer`.

    Times are whole seconds since the epoch. `nonce` is the request's, empty if it had none (RFC 8954).
    """

    issuer: str
    produced_at: int
    this_update: int
    next_update: int
    entries: list[OcspEntry]
    nonce: bytes = b""


class GenerateKey(Message, frozen=True, tag="generate-key"):
    """Generate a subject's key, for enrollments where the server manages it. `algorithm` as in the REST API (D12)."""

    algorithm: str


Verb: TypeAlias = IssueCertificate | UnwrapKey | SignAttributes | SignCrl | SignOcsp | GenerateKey


class Ask(Message, frozen=True):
    """One verb in a batch. `id` is unique on its connection."""

    id: int
    verb: Verb


class Batch(Message, frozen=True):
    """A frame to a worker: whatever was waiting."""

    version: int
    asks: list[Ask]


class Certificate(Message, frozen=True, tag="certificate"):
    """A certificate that was signed, DER."""

    der: bytes


class Unwrapped(Message, frozen=True, tag="unwrapped"):
    """A content-encryption key, or random bytes of the same length."""

    key: bytes


class Signature(Message, frozen=True, tag="signature"):
    """A signature over signed attributes."""

    signature: bytes


class RevocationList(Message, frozen=True, tag="revocation-list"):
    """A CRL that was signed, DER."""

    der: bytes


class OcspResponse(Message, frozen=True, tag="ocsp-response"):
    """An OCSPResponse that was signed, DER."""

    der: bytes


class GeneratedKey(Message, frozen=True, tag="generated-key"):
    """A new subject's key: PKCS#8 DER for its owner, and the same sealed under the unlock secret for the store."""

    spki: bytes
    private_key: bytes
    sealed: bytes


class No(Message, frozen=True, tag="no"):
    """A refusal; nothing was signed. `detail` is for the log and, where it speaks of the request, for the peer.

    `retry_after` is in seconds: a token is left alone for so long. 0 where nobody knows when to ask again.
    """

    reason: SignerRefusal
    detail: str
    retry_after: int = 0


Outcome: TypeAlias = Certificate | Unwrapped | Signature | RevocationList | OcspResponse | GeneratedKey | No


class Answer(Message, frozen=True):
    """The outcome of one ask."""

    id: int
    outcome: Outcome


class TokenFigures(Message, frozen=True):
    """One token, as a worker knows it: its circuit's state, how often that opened, what failed by its reason."""

    name: str
    state: str
    openings: int
    failures: dict[str, int]


class WorkerFigures(Message, frozen=True):
    """What a worker counted since its start, for telemetry. `process` tells one worker from the next at its place.

    `ended` is how the workers before it at this place ended, by cause, since the supervisor's start. `failovers` are
    operations that another token of a key did than its first.
    """

    process: int
    ended: dict[str, int] = {}
    tokens: list[TokenFigures] = []
    failovers: int = 0


class Answers(Message, frozen=True):
    """A frame from a worker: the outcomes of one batch, and how many microseconds it was worked on.

    `figures` come with the first frame of a connection, and whenever they have changed since.
    """

    answers: list[Answer]
    worked: int = 0  # 0: not told
    figures: WorkerFigures | None = None
