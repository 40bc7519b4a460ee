"""What a worker writes by hand is what cryptography's builder would write, to the byte (RFC 5280, 4.1; X.690)."""

import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from signer.contract.messages import GeneralName
from signer.contract.refusal import SignerRefusal
from signer.issuance import leaf, lint
from signer.issuance.der import object_identifier
from signer.issuance.issue import certificate, prepare, prepared
from signer.issuance.refused import Refused
from signer.keystore.mechanism import GENERATORS
from tests.signer.kit import COMMON_NAME, NOW, good_ask, issued, issuer, refuses, spki
from tests.signer.test_linter import asks

NAMES = [
    GeneralName("dns_name", "*.server.example"),
    GeneralName("ip_address", "192.0.2.7"),
    GeneralName("ip_address", "2001:db8::7"),
    GeneralName("email", "someone@mail.example"),
    GeneralName("uri", "urn:uuid:0d5bb0d0-0000-4000-8000-000000000000"),
    GeneralName("upn", "jürgen@corp.example"),
]
VALUES = {
    "2.5.4.5": "SN 17/4",
    "2.5.4.6": "DE",
    "0.9.2342.19200300.100.1.25": "example",
    "1.2.840.113549.1.9.1": "someone@mail.example",
}


def built(by, ask) -> bytes:
    """The TBSCertificate that the builder of ceremonies gives for the same ask."""
    return prepare(by, ask).sign(by.private_key, by.digest).tbs_certificate_bytes


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(asks())
def test_any_leaf_is_what_the_builder_makes_of_it(ask):
    by = issuer()
    try:
        expected = built(by, ask)
    except Refused:
        assume(False)
    except ValueError:  # the builder counts a name's octets, RFC 5280 its characters
        assert any(len(value.encode()) > len(value) for _, value in ask.subject)
        return
    made = prepared(by, ask)
    assert made.tbs == expected
    assert x509.load_der_x509_certificate(certificate(made)).tbs_certificate_bytes == expected


@pytest.mark.parametrize("san", NAMES, ids=lambda each: each.type)
@pytest.mark.parametrize("critical", [False, True])
def test_every_kind_of_name_is_what_the_builder_makes_of_it(san, critical):
    ask = good_ask(sans=[san], san_critical=critical, subject=[] if critical else [(COMMON_NAME, "x")])
    assert prepared(issuer(), ask).tbs == built(issuer(), ask)


@pytest.mark.parametrize("oid", lint.ATTRIBUTES)
def test_every_attribute_has_the_string_type_that_the_builder_gives_it(oid):
    """RFC 5280, appendix A.1: PrintableString, IA5String, or UTF8String."""
    ask = good_ask(subject=[(oid, VALUES.get(oid, "Zürich & Söhne")), (COMMON_NAME, "twice")])
    assert prepared(issuer(), ask).tbs == built(issuer(), ask)


@pytest.mark.parametrize("algorithm", sorted(set(GENERATORS) - {"RSA_4096"}))  # which takes seconds to make, thrice
def test_every_issuer_and_every_key_is_written_as_the_builder_writes_it(algorithm):
    by, ask = issuer(algorithm), good_ask(spki=spki(algorithm))
    made = prepared(by, ask)
    assert made.tbs == built(by, ask)
    x509.load_der_x509_certificate(certificate(made)).verify_directly_issued_by(by.key.certificate)


@pytest.mark.parametrize(
    "serial",
    [
        b"\x01" + bytes(7),
        bytes(4) + b"\x80" + bytes(7),
        b"\x7f" + bytes(19),
        bytes(8) + b"\xff" * 8,
        b"\0" * 7 + b"\x05",
    ],
)
def test_a_serial_is_written_in_the_fewest_octets(serial):
    """X.690, 8.3.2; positive, whatever its first bit is (RFC 5280, 4.1.2.2)."""
    ask = good_ask(serial=serial)
    assert prepared(issuer(), ask).tbs == built(issuer(), ask)


@pytest.mark.parametrize("not_after", [2_524_607_999, 2_524_608_000])
def test_the_year_2050_begins_with_a_generalized_time(not_after):
    """RFC 5280, 4.1.2.5."""
    by = issuer(max_validity=100 * 366 * 86400)
    ask = good_ask(not_before=NOW, not_after=not_after)
    assert leaf.tbs(by, ask, ask.spki).count(b"\x18\x0f2050") == (not_after == 2_524_608_000)


def test_a_point_in_its_short_form_is_written_in_its_long_one():
    key = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    whole = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    short = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    assert load_der_public_key(short) == key
    assert prepared(issuer(), good_ask(spki=short, serial=b"\x05" * 16)).tbs == (
        prepared(issuer(), good_ask(spki=whole, serial=b"\x05" * 16)).tbs
    )


def test_a_point_beside_the_curve_is_no_key():
    """The shape alone makes no key: invalid points have given private keys away."""
    beside = spki()[:-1] + bytes((spki()[-1] ^ 1,))
    assert "not a public key" in refuses(SignerRefusal.LINT, good_ask(spki=beside))


def test_a_key_of_the_usual_shape_is_under_the_ceiling_as_any_other():
    assert "EC_prime256v1" in refuses(SignerRefusal.CEILING, good_ask(), by=issuer(algorithms=["RSA_2048"]))
    assert issued(good_ask(), issuer(algorithms=["EC_prime256v1"])).public_key().key_size == 256


@given(st.lists(st.integers(0, 2**70), min_size=1, max_size=8), st.integers(0, 2), st.integers(0, 39))
def test_an_object_identifier_is_written_as_cryptography_writes_it(arcs, first, second):
    dotted = ".".join(map(str, (first, second, *arcs)))
    try:
        name = x509.RegisteredID(x509.ObjectIdentifier(dotted))
        written = x509.SubjectAlternativeName([name]).public_bytes()
    except ValueError:
        assume(False)
    assert object_identifier(dotted)[2:] == written[4:]


def test_issuances_of_one_moment_differ_in_what_must_differ():
    one, other = (prepared(issuer(), good_ask(serial=b"\x01" + os.urandom(15))).tbs for _ in range(2))
    assert one != other
    assert len(one) == len(other)
