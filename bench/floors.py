"""Floors: the bare cryptography that an enrollment contains, timed here and now, without any server around it.

A figure beside its floor says how much of an enrollment is ours to save; the machine's speed cancels out as far as both
are of the same seconds (`bench.pace`). May not happen here: a server, a process.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import asn1crypto.x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.load.requests import csr, elliptic


@dataclass(frozen=True, slots=True)
class Operations:
    """CPU microseconds of one operation each, single-threaded: best moments (`measure`) or means (`bench.pace`)."""

    verify_p256: float
    sign_p256: float
    parse_csr: float
    issue_p256: float
    rsa_private: float
    rsa_public: float
    parse_csr_rsa: float
    handshake: float
    read_subject: float

    @property
    def pace(self) -> float:
        """How many times as long this machine takes as the one whose figures the budgets were set beside.

        The median of six operations that were timed there (`PLANNED`); five are OpenSSL's and one is Python's.
        """
        taken: dict[str, float] = asdict(self)
        return statistics.median(taken[name] / planned for name, planned in PLANNED.items())

    def paced(self, budget: float, floor: Floor) -> float:
        """A budget at this machine's pace, in milliseconds as the budget: its cryptography at its own, the rest at all.

        What a budget leaves beside the plan's own floor is mostly an interpreter's and a kernel's time, and grows by
        the median ratio. Its cryptography is the floor as it is here, since no one ratio fits all of it: an RSA-2048
        signature takes three times as long where a processor has no AVX-512 IFMA while all else takes twice, and a
        handshake may take less than twice. With one ratio for all, a piece of work with much RSA in it had less than
        the plan left it, one with a handshake had more. Where every operation has the same ratio this is the budget
        times it.
        """
        return floor(self) + (budget - floor(PLAN)) * self.pace

    def signed_read(self) -> float:
        """One signed POST-as-GET, in milliseconds: its signature."""
        return self.verify_p256 / 1000

    def acme(self, posts: int) -> float:
        """An ACME issuance with that many signed requests, in milliseconds."""
        return (posts * self.verify_p256 + self.parse_csr + self.issue_p256) / 1000

    def est(self) -> float:
        """An EST enrollment on a kept connection, in milliseconds."""
        return (self.parse_csr + self.issue_p256) / 1000

    def est_with_handshake(self) -> float:
        """The same after a full mutual TLS 1.3 handshake of its own, the server's side of it."""
        return self.est() + self.handshake / 1000

    def rest(self) -> float:
        """A REST enrollment with a CSR: the same two operations."""
        return self.est()

    def ocsp(self, signatures: int) -> float:
        """An OCSP answer with so many signatures by a P-256 responder, in milliseconds."""
        return signatures * self.sign_p256 / 1000

    def scep(self) -> float:
        """A PKCSReq: unwrap and sign with the RA's key, verify the message, wrap the reply, parse the CSR, issue."""
        crypto = 2 * self.rsa_private + 2 * self.rsa_public + self.parse_csr_rsa + self.issue_p256
        return crypto / 1000


Floor: TypeAlias = Callable[[Operations], float]

# On the machine of the performance plan, from its table.
PLAN: Final = Operations(
    verify_p256=46,
    sign_p256=18,
    parse_csr=56,
    issue_p256=61,
    rsa_private=220,
    rsa_public=16,
    parse_csr_rsa=56 - 46 + 16,  # not in the table: a CSR is read alike, and the other signature verified
    handshake=880,
    read_subject=32,
)
_TIMED_ALIKE: Final = ("sign_p256", "verify_p256", "parse_csr", "rsa_private", "rsa_public", "read_subject")
# Those whose ratios are the pace: it is not said of the plan's other figures that they were taken as they are here.
PLANNED: Final[dict[str, float]] = {name: planned for name, planned in asdict(PLAN).items() if name in _TIMED_ALIKE}


def measure() -> Operations:
    """Time each operation on this machine at its best moments; takes about two seconds."""
    calls, shaking = prepared(), Handshakes()
    timed = {name: best(call, rounds=200 if name == "rsa_private" else 1000) for name, call in calls.items()}
    return Operations(**timed, handshake=min(shaking.server_seconds() for _ in range(60)) * 1e6)


def prepared() -> dict[str, Callable[[], object]]:
    """Each operation but the handshake, by its name in `Operations`, with keys and messages of its own."""
    key, issuer = elliptic(), elliptic()
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    message = b"m" * 400
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    public = key.public_key()
    request, rsa_request = csr(key, "floor.bench.example"), csr(rsa_key, "floor.bench.example")
    rsa_signature = rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    rsa_public = rsa_key.public_key()
    return {
        "verify_p256": lambda: public.verify(signature, message, ec.ECDSA(hashes.SHA256())),
        "sign_p256": lambda: key.sign(message, ec.ECDSA(hashes.SHA256())),
        "parse_csr": lambda: parsed(request),
        "issue_p256": lambda: issue(issuer, public),
        "rsa_private": lambda: rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
        "rsa_public": lambda: rsa_public.verify(rsa_signature, message, padding.PKCS1v15(), hashes.SHA256()),
        "parse_csr_rsa": lambda: parsed(rsa_request),
        "read_subject": subject_reader(),
    }


def subject_reader() -> Callable[[], object]:
    """Load a certificate and read its subject, with asn1crypto: an operation that is Python alone."""
    certificate = x509.load_pem_x509_certificate(_self_signed()).public_bytes(Encoding.DER)
    return lambda: asn1crypto.x509.Certificate.load(certificate).subject.native


def parsed(der: bytes) -> None:
    """Read a certification request and verify it, with nothing around."""
    if not x509.load_der_x509_csr(der).is_signature_valid:
        raise RuntimeError("the request's signature is wrong")


def issue(issuer: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> None:
    """Build and sign a leaf with the extensions of an ordinary TLS certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "floor.bench.example")])
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number(), now, now + dt.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("floor.bench.example")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(b"k" * 20), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(b"k" * 20, None, None), critical=False)
        .sign(issuer, hashes.SHA256())
    )


class Handshakes:
    """Full mutual TLS 1.3 handshakes, P-256 on both sides, OpenSSL in memory."""

    def __init__(self) -> None:
        self._server, self._client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname = False
        self._server.verify_mode = self._client.verify_mode = ssl.CERT_REQUIRED
        with TemporaryDirectory(prefix="muster-bench-") as folder:
            held = Path(folder, "both.pem")
            held.write_bytes(_self_signed())
            for each in (self._server, self._client):
                each.load_cert_chain(held)
                each.load_verify_locations(held)

    def server_seconds(self) -> float:
        """One handshake; the CPU seconds of the server's side of it."""
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        here = self._server.wrap_bio(up, down, server_side=True)
        there = self._client.wrap_bio(down, up)
        used, shaken = 0.0, False
        while not shaken:
            with contextlib.suppress(ssl.SSLWantReadError):
                there.do_handshake()
            began = time.thread_time()
            with contextlib.suppress(ssl.SSLWantReadError):
                here.do_handshake()
                shaken = True
            used += time.thread_time() - began
        return used


def _self_signed() -> bytes:
    """A key and its certificate, PEM, good for either side."""
    key = elliptic()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "floor.bench.example")])
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - hour, now + hour)
    basic = x509.BasicConstraints(ca=True, path_length=None)
    made = builder.add_extension(basic, critical=True).sign(key, hashes.SHA256())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)


def best(operation: Callable[[], object], rounds: int = 1000) -> float:
    """CPU microseconds of one call: the best of five batches, since noise only ever adds."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(rounds // 5):
            operation()
        best = min(best, (time.process_time() - begun) / (rounds // 5))
    return best * 1e6
