"""`python -m bench.parsing`: what reading and judging cost, beside the bare cryptography that each contains.

CPU microseconds, the best of several rounds, one thread, nothing else running: what an enrollment's pure part would
cost on an idle machine. In a gateway under load caches are colder and everything costs more (`bench.enrolling`).
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench import floors, interrupt
from bench.load import acme, scep
from bench.load.requests import csr, elliptic
from gateway.actions.asked import from_csr
from gateway.domain.application import Application, EnrollmentSettings, EstSettings, Pair
from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus
from gateway.domain.issuance import plan
from gateway.domain.presets import PRESETS
from gateway.domain.profile import Defaults, Profile
from gateway.domain.request import Proof, ProofKind, Protocol
from protocols.cms import degenerate, signed
from protocols.jose import jwk, jws
from protocols.pkix import certificate
from protocols.pkix import csr as pkcs10
from protocols.scep import messages

NAME = "device.bench.example"
NOW = dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what is done, and the cryptography in it."""

    title: str
    work: Callable[[], object]
    floor: Callable[[], object]


def requests() -> list[Row]:
    """Certification requests and certificates."""
    key, rsa_key = elliptic(), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    small, large = csr(key, NAME), csr(rsa_key, NAME)
    held = self_signed(key)
    return [
        Row("csr.parse, P-256", lambda: pkcs10.parse(small), lambda: floors.parsed(small)),
        Row("csr.parse, RSA-2048", lambda: pkcs10.parse(large), lambda: floors.parsed(large)),
        Row("certificate.read, P-256", lambda: certificate.read(held), lambda: x509.load_der_x509_certificate(held)),
    ]


def signatures() -> list[Row]:
    """A signed ACME request: read, its key out of memory, verified."""
    key = acme.AccountKey()
    key.kid = "https://gateway.bench.example/acme/demo/tls-server/account/1"
    body = key.signed("https://gateway.bench.example/acme/demo/tls-server/order/1", "n" * 52, None)
    account = jwk.parse(key.jwk).canonical
    message = jws.parse(body)
    own = elliptic()
    signature, public = own.sign(message.signed, ec.ECDSA(hashes.SHA256())), own.public_key()

    def read() -> None:
        found = jws.parse(body)
        jws.verify(found, jwk.verifier(account))

    return [
        Row(
            "jws.parse and verify, ES256",
            read,
            lambda: public.verify(signature, message.signed, ec.ECDSA(hashes.SHA256())),
        ),
    ]


def pki_messages() -> list[Row]:
    """A SCEP message: read, and its signature verified; nothing is decrypted."""
    ra = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    body = scep.Messages(degenerate.certificates_only((self_signed(ra),)), "challenge").enrollment()
    signature, public = ra.sign(body, padding.PKCS1v15(), hashes.SHA256()), ra.public_key()

    def verify() -> None:
        if signed.verify(messages.read(body).signed) is not signed.Verdict.VALID:
            raise RuntimeError("the message does not verify")

    return [
        Row(
            "SCEP: read and verify, RSA-2048",
            verify,
            lambda: public.verify(signature, body, padding.PKCS1v15(), hashes.SHA256()),
        ),
    ]


def judgement() -> list[Row]:
    """From a parsed request to a plan. There is no cryptography in it but one SHA-256 over the request."""
    request = pkcs10.parse(csr(elliptic(), NAME))
    proof = Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "device", request.sha256)
    pair = _pair()
    serial = 1 << 126
    return [
        Row(
            "from_csr and plan, preset tls-server",
            lambda: plan(from_csr(request, proof), pair, serial=serial, now=NOW),
            lambda: hashlib.sha256(request.der).digest(),
        ),
    ]


def self_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A certificate that may encipher keys, DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + dt.timedelta(days=7))
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _pair() -> Pair:
    authority = Authority(
        id="authority",
        name="issuing",
        kind=AuthorityKind.INTERMEDIATE,
        status=AuthorityStatus.ACTIVE,
        key="issuing",
        subject="CN=issuing",
        chain=(b"issuing", b"root"),
        key_algorithm="EC_prime256v1",
        not_before=NOW - dt.timedelta(days=1),
        not_after=NOW + dt.timedelta(days=3650),
    )
    profile = Profile("profile", "tls-server", authority.id, PRESETS["tls-server"], Defaults(ttl=dt.timedelta(days=90)))
    settings = EnrollmentSettings(est=EstSettings())
    return Pair(Application("application", "bench", NOW), profile, authority, settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m bench.parsing", description=__doc__).parse_args(arguments)
    names = ("ours", "floor", "beside it")
    print(f"{'us CPU, the best of several rounds':38} " + " ".join(f"{each:>9}" for each in names))
    for row in (*requests(), *signatures(), *pki_messages(), *judgement()):
        row.work()  # a failure is shown here, and what is made once is made now
        ours, floor = floors.best(row.work), floors.best(row.floor)
        print(f"{row.title:38} {ours:9.1f} {floor:9.1f} {ours - floor:9.1f}")


if __name__ == "__main__":
    interrupt.run(main)
