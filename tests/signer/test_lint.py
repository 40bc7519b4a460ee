"""RFC 5280, before anything is signed: each fault of an ask has its sentence."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.contract.messages import GeneralName
from signer.contract.refusal import SignerRefusal
from signer.issuance.issuer import issuer_of
from signer.issuance.refused import Refused
from signer.issuance.usage import KEY_USAGES
from tests.signer.kit import NOW, authority_ask, good_ask, issued, refuses, root, spki


@pytest.mark.parametrize("serial", [b"", b"\1" * 7, b"\1" * 21, bytes(16), b"\x80" + bytes(19), b"\xff" * 20])
def test_a_serial_number_is_positive_and_of_8_to_20_bytes(serial):
    """RFC 5280, 4.1.2.2; D6."""
    refuses(SignerRefusal.LINT, good_ask(serial=serial))


@pytest.mark.parametrize("serial", [b"\x00" * 7 + b"\x01", b"\xff" * 8, b"\x7f" + b"\xff" * 19])
def test_every_serial_number_within_the_bounds_is_signed(serial):
    assert issued(good_ask(serial=serial)).serial_number == int.from_bytes(serial, "big")


@pytest.mark.parametrize("days", [-1, -91])
def test_a_validity_ends_after_it_begins(days):
    """RFC 5280, 4.1.2.5."""
    refuses(SignerRefusal.LINT, good_ask(not_before=NOW, not_after=NOW + days if days == -1 else NOW))


@pytest.mark.parametrize(
    "subject",
    [
        [("2.5.4.3", "")],
        [("2.5.4.3", "x" * 65)],
        [("2.5.4.3", "a\0b")],
        [("2.5.4.3", "a\x85b")],
        [("2.5.4.6", "DEU")],
        [("2.5.4.6", "1É")],
        [("2.5.4.5", "serial*")],
        [("0.9.2342.19200300.100.1.25", "two.labels")],
        [("1.2.840.113549.1.9.1", "nobody")],
        [("1.2.3.4", "an attribute that nobody knows")],
        [("CN", "no identifier")],
    ],
)
def test_a_subject_keeps_to_the_upper_bounds_and_alphabets(subject):
    """RFC 5280, appendix A.1."""
    refuses(SignerRefusal.LINT, good_ask(subject=subject))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns_name", ""),
        ("dns_name", "*"),
        ("dns_name", "a.*.example"),
        ("dns_name", "a*.example"),
        ("dns_name", "*.*.example"),
        ("dns_name", "-a.example"),
        ("dns_name", "a-.example"),
        ("dns_name", "a..example"),
        ("dns_name", "a.example."),
        ("dns_name", "ä.example"),
        ("dns_name", "under_score.example"),
        ("dns_name", "192.0.2.1"),
        ("dns_name", "a b.example"),
        ("dns_name", "a.example\n"),
        ("dns_name", "a" * 64 + ".example"),
        ("dns_name", ".".join(["a" * 60] * 5)),
        ("ip_address", "192.0.2.256"),
        ("ip_address", "192.0.2.0/24"),
        ("ip_address", "fe80::1%eth0"),
        ("email", "nobody"),
        ("email", "a@b@c.example"),
        ("email", "ä@mail.example"),
        ("email", "A Person <a@mail.example>"),
        ("email", "a" * 65 + "@mail.example"),
        ("uri", "/relative"),
        ("uri", "https://a.example/with space"),
        ("uri", "https://ä.example/"),
        ("upn", "nobody"),
        ("upn", "a b@corp.example"),
        ("upn", "a@" + "b" * 1100),
        ("directory_name", "CN=x"),
        ("", ""),
    ],
)
def test_alternative_names_that_are_none_are_refused(kind, value):
    """RFC 5280, 4.2.1.6. Names that nobody judged never pass through."""
    refuses(SignerRefusal.LINT, good_ask(sans=[GeneralName(kind, value)]))


def test_a_name_occurs_once():
    twice = [GeneralName("dns_name", "a.example"), GeneralName("dns_name", "A.example")]
    refuses(SignerRefusal.LINT, good_ask(sans=twice))


def test_names_are_critical_exactly_where_the_subject_is_empty():
    """RFC 5280, 4.2.1.6; D6. Apple's clients refuse a leaf with neither."""
    refuses(SignerRefusal.LINT, good_ask(subject=[]))
    refuses(SignerRefusal.LINT, good_ask(san_critical=True))
    refuses(SignerRefusal.LINT, good_ask(subject=[], sans=[], san_critical=True))
    made = issued(good_ask(subject=[], san_critical=True))
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


@pytest.mark.parametrize(
    "changes",
    [
        {"key_usages": ["digitalSignature", "digitalSignature"]},
        {"extended_key_usages": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.1"]},
        {"key_usages": ["signing"]},
        {"key_usages": ["keyEncipherment"]},  # RFC 8813: not with EC
        {"key_usages": ["keyAgreement"], "spki": "RSA_2048"},
        {"key_usages": ["digitalSignature", "keyAgreement"], "spki": "ED25519"},  # RFC 8410, 5
        {"key_usages": ["digitalSignature", "keyEncipherment"], "spki": "ML-DSA-44"},  # RFC 9881, 5
        {"key_usages": ["digitalSignature", "encipherOnly"]},
        {"key_usages": ["digitalSignature", "decipherOnly"]},
        {"key_usages": ["digitalSignature", "keyCertSign"]},
        {"key_usages": ["digitalSignature", "cRLSign"]},
        {"key_usages": ["nonRepudiation"]},  # RFC 5280, 4.2.1.12: not with serverAuth
        {"extended_key_usages": ["serverAuth"]},
        {"extended_key_usages": ["1.3.6.1.5.5.7.3.08"]},
        {"extended_key_usages": ["1.2." + ".".join(["9999999999"] * 20)]},
        {"extended_key_usages": ["1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.1"]},  # RFC 3161, 2.3
        {"path_length": 0},
        {"crl_urls": ["ldap://pki.example/a"]},
        {"issuer_urls": ["http://pki.example/a b"]},
        {"ocsp_urls": ["http://"]},
    ],
)
def test_usages_and_addresses_that_do_not_fit_are_refused(changes):
    if "spki" in changes:
        changes = {**changes, "spki": spki(changes["spki"])}
    refuses(SignerRefusal.LINT, good_ask(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": [], "sans": [GeneralName("dns_name", "a.example")], "san_critical": True},
        {"path_length": -1},
        {"key_usages": ["cRLSign"]},
    ],
)
def test_an_authority_has_a_subject_and_may_sign_certificates(changes):
    """RFC 5280, 4.1.2.6, 4.2.1.3, 4.2.1.9."""
    refuses(SignerRefusal.LINT, authority_ask(**changes), by=issuer_of(root()))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"no key",
        bytes(5000),
        lambda: rsa.generate_private_key(65537, 1024),
        lambda: ec.generate_private_key(ec.SECP224R1()),
        x25519.X25519PrivateKey.generate,
    ],
)
def test_what_is_no_key_or_a_weak_one_is_refused(bad):
    """D7."""
    if callable(bad):
        bad = bad().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    refuses(SignerRefusal.LINT, good_ask(spki=bad))


def test_a_point_that_is_not_on_its_curve_is_refused():
    off = bytearray(spki())
    off[-1] ^= 1
    refuses(SignerRefusal.LINT, good_ask(spki=bytes(off)))


texts = st.text(max_size=70)
names = st.lists(st.builds(GeneralName, st.sampled_from(["dns_name", "ip_address", "email", "uri", "upn"]), texts))
usages = st.lists(st.sampled_from([*KEY_USAGES, "nonsense"]), max_size=4)
oids = st.lists(st.sampled_from(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.8", "2.999.1", "1.9", "x"]), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["2.5.4.3", "2.5.4.6", "2.5.4.5", "1.2.840.113549.1.9.1"]), texts), max_size=3),
    names,
    usages,
    oids,
    st.binary(min_size=7, max_size=21),
    st.booleans(),
)
def test_whatever_is_asked_is_refused_or_signed_and_readable(subject, sans, key_usages, extended, serial, critical):
    ask = good_ask(
        subject=subject,
        sans=sans,
        key_usages=key_usages,
        extended_key_usages=extended,
        serial=serial,
        san_critical=critical,
    )
    try:
        made = issued(ask)
    except Refused:
        return
    assert [(each.oid.dotted_string, each.value) for each in made.subject] == subject
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
