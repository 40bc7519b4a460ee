"""OCSP responses and who signs them (RFC 6960, 4.2; RFC 5019, 2.2; RFC 8954; D19)."""

import datetime as dt
import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from asn1crypto import ocsp as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.contract.messages import OcspEntry, SignOcsp
from signer.contract.refusal import SignerRefusal
from signer.issuance.issuer import Issuer, issuer_of
from signer.issuance.ocsp import MAX_ENTRIES, MAX_VALIDITY, Speaker, sign_ocsp
from signer.issuance.refused import Refused
from signer.issuance.responder import LIFETIME, RENEW_AFTER, RETRY_AFTER, Responders
from tests.doubles.programs import installed
from tests.signer.kit import NOW, issuer, issuing, root

DAY = 86400
SERIAL = b"\x12\x34\x56\x78\x9a\xbc\xde\xf0"
HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}


class Recorded:
    """What was told to the journal."""

    def __init__(self) -> None:
        self.certificates: list[tuple[str, int, x509.Certificate]] = []

    def __call__(self, name: str, serial: int, der: bytes) -> None:
        self.certificates.append((name, serial, x509.load_der_x509_certificate(der)))


def entry(**changes: object) -> OcspEntry:
    fields = {"digest": "sha1", "serial": SERIAL, "status": "good", **changes}
    return OcspEntry(**fields)


def ask(*entries: OcspEntry, **changes: object) -> SignOcsp:
    fields = {
        "issuer": "issuing",
        "produced_at": NOW,
        "this_update": NOW - 300,
        "next_update": NOW + DAY,
        "entries": list(entries) or [entry()],
        **changes,
    }
    return SignOcsp(**fields)


def signed(question: SignOcsp, by: Issuer | None = None, *, responders: Responders | None = None) -> bytes:
    by = by or issuer()
    responders = responders or Responders(os.urandom, Recorded())
    return sign_ocsp(Speaker(by), responders.of(by, NOW), question, now=NOW)


def parsed(der: bytes) -> ocsp.OCSPResponse:
    made = ocsp.load_der_ocsp_response(der)
    assert made.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    return made


def verified(made: ocsp.OCSPResponse, by: Issuer) -> x509.Certificate:
    """The responder's certificate, once the response's signature and its own are proved (RFC 6960, 4.2.2.2)."""
    [certificate] = made.certificates
    certificate.verify_directly_issued_by(by.key.certificate)
    key = certificate.public_key()
    data = made.tbs_response_bytes
    match key:
        case ec.EllipticCurvePublicKey():
            key.verify(made.signature, data, ec.ECDSA(made.signature_hash_algorithm))
        case rsa.RSAPublicKey():
            key.verify(made.signature, data, padding.PKCS1v15(), made.signature_hash_algorithm)
        case _:
            key.verify(made.signature, data)
    return certificate


def refuses(reason: SignerRefusal, question: SignOcsp) -> None:
    with pytest.raises(Refused) as caught:
        signed(question)
    assert caught.value.reason is reason


@pytest.mark.parametrize("digest", sorted(HASHES))
@pytest.mark.parametrize("parameters", [True, False])
def test_a_good_certificate_is_said_to_be_good_under_every_digest(digest: str, parameters: bool):
    made = parsed(signed(ask(entry(digest=digest, parameters=parameters))))
    verified(made, issuer())
    assert made.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert made.serial_number == int.from_bytes(SERIAL, "big")
    certificate = issuing().certificate
    reference = ocsp.OCSPRequestBuilder().add_certificate(certificate, certificate, HASHES[digest]()).build()
    assert made.issuer_name_hash == hashlib.new(digest, certificate.subject.public_bytes()).digest()
    assert made.issuer_key_hash == reference.issuer_key_hash
    algorithm = asn1.OCSPResponse.load(signed(ask(entry(digest=digest, parameters=parameters))))
    identifier = algorithm.basic_ocsp_response["tbs_response_data"]["responses"][0]["cert_id"]["hash_algorithm"]
    assert identifier["algorithm"].native == digest
    assert len(identifier.dump()) == len(identifier["algorithm"].dump()) + 2 + (2 if parameters else 0)


def test_the_times_are_what_was_asked_without_fractions():
    """RFC 5019, 2.2.4."""
    made = parsed(signed(ask()))
    assert made.produced_at_utc == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert made.this_update_utc == dt.datetime.fromtimestamp(NOW - 300, dt.UTC)
    assert made.next_update_utc == dt.datetime.fromtimestamp(NOW + DAY, dt.UTC)


@pytest.mark.parametrize("reason", [0, 1, 2, 3, 4, 5, 6, 9, 10])
def test_a_revoked_certificate_is_named_with_time_and_reason(reason: int):
    """RFC 6960, 4.2.1; RFC 5280, 5.3.1: absent instead of unspecified."""
    made = parsed(signed(ask(entry(status="revoked", revoked_at=NOW - 10, reason=reason))))
    assert made.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert made.revocation_time_utc == dt.datetime.fromtimestamp(NOW - 10, dt.UTC)
    assert (made.revocation_reason is None) is (reason == 0)
    der = signed(ask(entry(status="revoked", revoked_at=NOW - 10, reason=reason)))
    status = asn1.OCSPResponse.load(der).basic_ocsp_response["tbs_response_data"]["responses"][0]["cert_status"]
    said = status.chosen["revocation_reason"]
    assert said.contents == (bytes([reason]) if reason else b"")


def test_several_certificates_are_answered_in_their_order_with_their_own_ids():
    """RFC 6960, 4.2.1; another issuer's are `unknown` under the hashes that were asked."""
    entries = [
        entry(),
        entry(serial=b"\x05", status="revoked", revoked_at=NOW - 5, digest="sha256"),
        entry(serial=b"\x06", status="unknown"),
        entry(serial=b"\x00\x80", status="unknown", name_hash=b"n" * 20, key_hash=b"k" * 20),
        entry(serial=b"\x80", status="unknown"),
    ]
    made = list(parsed(signed(ask(*entries))).responses)
    kinds = [each.certificate_status.name for each in made]
    assert kinds == ["GOOD", "REVOKED", "UNKNOWN", "UNKNOWN", "UNKNOWN"]
    assert [each.serial_number for each in made] == [int.from_bytes(SERIAL, "big"), 5, 6, 128, -128]
    assert (made[3].issuer_name_hash, made[3].issuer_key_hash) == (b"n" * 20, b"k" * 20)
    assert made[1].hash_algorithm.name == "sha256"


@pytest.mark.parametrize("nonce", [b"\x00", b"n" * 32])
def test_a_nonce_comes_back(nonce: bytes):
    """RFC 8954, 2.1."""
    made = parsed(signed(ask(nonce=nonce)))
    assert made.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    verified(made, issuer())


def test_without_a_nonce_there_are_no_extensions():
    """RFC 5019, 2.2.1."""
    assert list(parsed(signed(ask())).extensions) == []


def test_a_responders_certificate_is_what_its_verifiers_need():
    """RFC 6960, 4.2.2.2 and 4.2.2.2.1; RFC 5019, 2.2.2: no addresses; identified by key."""
    recorded = Recorded()
    made = parsed(signed(ask(), responders=Responders(os.urandom, recorded)))
    certificate = verified(made, issuer())
    found = {each.oid: each for each in certificate.extensions}
    assert set(found) == {
        x509.OCSPNoCheck.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
        x509.BasicConstraints.oid,
        x509.AuthorityKeyIdentifier.oid,
        x509.SubjectKeyIdentifier.oid,
    }
    assert list(found[x509.ExtendedKeyUsage.oid].value) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    usage = found[x509.KeyUsage.oid]
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    ski = issuing().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert found[x509.AuthorityKeyIdentifier.oid].value.key_identifier == ski.digest
    key = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert made.responder_key_hash == hashlib.sha1(key).digest()
    assert certificate.subject.rfc4514_string() == "CN=Issuing OCSP responder"
    assert certificate.serial_number.bit_length() == 159
    assert recorded.certificates == [("issuing", certificate.serial_number, certificate)]


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("EC_secp384r1", ec.EllipticCurvePublicKey),
        ("RSA_2048", rsa.RSAPublicKey),
        ("ED25519", ed25519.Ed25519PublicKey),
        ("ML-DSA-65", mldsa.MLDSA65PublicKey),
    ],
)
def test_every_kind_of_issuer_has_a_responder_of_its_kind(algorithm: str, kind: type):
    by = issuer(algorithm)
    certificate = verified(parsed(signed(ask(), by)), by)
    assert isinstance(certificate.public_key(), kind)


def test_a_root_has_one_too():
    by = issuer_of(root())
    verified(parsed(signed(ask(), by)), by)


def named(name: x509.Name) -> Issuer:
    """An issuer in whose responder's name the common name is to be put; its certificate says otherwise."""
    return replace(issuer(), name=name)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("O=Example", "CN=OCSP responder,O=Example"),
        (f"CN={'a' * 64},O=Example", f"CN={'a' * 49} OCSP responder,O=Example"),
    ],
)
def test_a_responders_name_is_the_issuers_with_what_it_is(name: str, subject: str):
    recorded = Recorded()
    Responders(os.urandom, recorded).of(named(x509.Name.from_rfc4514_string(name)), NOW)
    assert recorded.certificates[0][2].subject.rfc4514_string() == subject


def test_a_responder_serves_until_half_of_its_life_and_is_renewed_then():
    recorded = Recorded()
    responders = Responders(os.urandom, recorded)
    by = issuer()
    first = responders.of(by, NOW)
    assert responders.of(by, NOW + RENEW_AFTER - 1) is first
    second = responders.of(by, NOW + RENEW_AFTER)
    assert second is not first
    assert first.not_after - (NOW + RENEW_AFTER) >= MAX_VALIDITY
    assert (first.not_after, second.not_after) == (NOW + LIFETIME, NOW + RENEW_AFTER + LIFETIME)
    assert len(recorded.certificates) == 2


def test_an_issuer_whose_certificate_was_exchanged_gets_a_new_responder():
    responders = Responders(os.urandom, Recorded())
    first = responders.of(issuer(), NOW)
    assert responders.of(issuer(), NOW) is not first


class Away(ec.EllipticCurvePrivateKey):
    """A key whose token can be taken away."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self.key = key
        self.away = False
        self.tries = 0

    def sign(self, data, signature_algorithm):
        self.tries += 1
        if self.away:
            raise OSError("the token is away")
        return self.key.sign(data, signature_algorithm)

    def public_key(self):
        return self.key.public_key()

    curve = key_size = exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = None  # type: ignore[assignment]


def test_a_token_that_is_away_is_asked_now_and_then_and_the_responder_serves_on(capfd):
    key = Away(issuing().private_key)
    by = replace(issuer(), private_key=key)
    responders = Responders(os.urandom, Recorded())
    first = responders.of(by, NOW)
    key.away, key.tries = True, 0
    for seconds in range(3):
        assert responders.of(by, NOW + RENEW_AFTER + seconds) is first
    assert key.tries == 1
    assert "the token is away" in capfd.readouterr().err
    assert responders.of(by, NOW + RENEW_AFTER + RETRY_AFTER) is first
    assert key.tries == 2
    with pytest.raises(OSError):
        responders.of(by, first.not_after)
    key.away = False
    assert responders.of(by, first.not_after) is not first


def test_an_issuer_whose_time_is_over_has_no_responder():
    by = issuer()
    for now in (by.not_after, by.not_before - 1):
        with pytest.raises(Refused) as caught:
            Responders(os.urandom, Recorded()).of(by, now)
        assert caught.value.reason is SignerRefusal.CEILING


def test_nothing_outlives_the_issuer():
    by = replace(issuer(), not_after=NOW + DAY)
    responder = Responders(os.urandom, Recorded()).of(by, NOW)
    assert responder.not_after == NOW + DAY
    assert responder.renew_at == NOW + DAY // 2
    with pytest.raises(Refused) as caught:
        sign_ocsp(Speaker(by), responder, ask(next_update=NOW + DAY + 1), now=NOW)
    assert caught.value.reason is SignerRefusal.CEILING


@pytest.mark.parametrize(
    "question",
    [
        ask(this_update=NOW + 100, produced_at=NOW + 100),
        ask(this_update=NOW - 2 * DAY),
        ask(produced_at=NOW - 400),
        ask(next_update=NOW - 300),
        ask(next_update=NOW - 300 + MAX_VALIDITY + 1),
        ask(*[entry()] * (MAX_ENTRIES + 1)),
        ask(nonce=b"n" * 33),
        ask(entry(status="fine")),
        ask(entry(digest="md5")),
        ask(entry(serial=b"")),
        ask(entry(serial=b"\x01" * 33)),
        ask(entry(serial=b"\x00\x01")),
        ask(entry(serial=b"\xff\x80")),
        ask(entry(status="revoked", revoked_at=NOW + 2 * DAY)),
        ask(entry(status="revoked", revoked_at=-1)),
        ask(entry(status="revoked", revoked_at=NOW, reason=7)),
        ask(entry(status="revoked", revoked_at=NOW, reason=8)),
        ask(entry(status="unknown", name_hash=b"n" * 32, key_hash=b"k" * 32)),
        ask(entry(status="unknown", name_hash=b"n" * 20)),
    ],
)
def test_what_no_response_may_say_is_refused(question: SignOcsp):
    """A compromised gateway: no answers for times to come, none that cannot be read."""
    refuses(SignerRefusal.LINT, question)


def test_a_response_speaks_of_something():
    refuses(SignerRefusal.LINT, ask(entries=[]))


def test_times_beyond_the_calendar_are_refused():
    late = 253_402_300_799
    responder = Responders(os.urandom, Recorded()).of(issuer(), NOW)
    question = ask(this_update=late - 5, produced_at=late - 5, next_update=late + 5)
    with pytest.raises(Refused):
        sign_ocsp(Speaker(issuer()), replace(responder, not_after=late * 2), question, now=late)


@pytest.mark.parametrize("status", ["good", "revoked"])
def test_another_issuers_certificate_is_never_vouched_for(status: str):
    refuses(SignerRefusal.CEILING, ask(entry(status=status, name_hash=b"n" * 20, key_hash=b"k" * 20)))


def test_every_responders_key_is_its_own():
    """Nothing of it is derived or shared: two workers have two keys."""
    made = [Responders(os.urandom, Recorded()).of(issuer(), NOW) for _ in range(3)]
    assert len({each.identity for each in made}) == 3


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            OcspEntry,
            digest=st.sampled_from(["sha1", "sha256", "md5"]),
            serial=st.binary(max_size=34),
            status=st.sampled_from(["good", "revoked", "unknown", ""]),
            revoked_at=st.integers(-5, 2 * NOW),
            reason=st.integers(-1, 12),
            parameters=st.booleans(),
            name_hash=st.sampled_from([b"", b"n" * 20, b"n" * 32]),
            key_hash=st.sampled_from([b"", b"k" * 20, b"k" * 32]),
        ),
        max_size=4,
    ),
    st.binary(max_size=40),
)
def test_whatever_is_asked_is_refused_or_a_response_that_others_read(entries: list[OcspEntry], nonce: bytes):
    try:
        der = signed(ask(entries=entries, nonce=nonce))
    except Refused:
        return
    made = list(parsed(der).responses)
    assert [each.serial_number for each in made] == [int.from_bytes(e.serial, "big", signed=True) for e in entries]
    assert asn1.OCSPResponse.load(der, strict=True).dump(force=True) == der


def test_openssl_accepts_a_response(tmp_path: Path):
    installed("openssl")
    by = issuer_of(root())
    responder = Responders(os.urandom, Recorded()).of(by, NOW)
    serial = issuing().certificate.serial_number
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    question = ask(entry(serial=octets), issuer="root")
    (tmp_path / "response.der").write_bytes(sign_ocsp(Speaker(by), responder, question, now=NOW))
    for name, key in (("root", root()), ("issuing", issuing())):
        (tmp_path / f"{name}.pem").write_bytes(key.certificate.public_bytes(Encoding.PEM))
    words = ["openssl", "ocsp", "-issuer", "root.pem", "-cert", "issuing.pem", "-respin", "response.der"]
    words += ["-CAfile", "root.pem", "-attime", str(NOW)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    # OpenSSL judges the response's times by its own clock, and says so in between.
    assert "good" in done.stdout.replace("\n", " ").split(), done.stderr
    assert "Response verify OK" in done.stderr
