"""One issuance, asked by a gateway that may be somebody else's: what is signed, and everything that is not."""

import datetime as dt
import hashlib
import ipaddress
import os
import pathlib
from dataclasses import replace

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.request import PROOF_PROTOCOL
from signer.ceremony import DAY
from signer.contract.messages import GeneralName
from signer.contract.refusal import SignerRefusal
from signer.issuance import issue as issuing_room
from signer.issuance.issuer import issuer_of
from signer.issuance.proof import KINDS
from signer.issuance.refused import Refused
from signer.issuance.ticket import GENERATION, HORIZON, Tickets, claim_of
from signer.issuance.usage import KEY_USAGES
from signer.keystore.key import KeyKind, NameRange
from tests.doubles.verification import lint
from tests.signer.kit import NOW, good_ask, issue, issuer, issuing, pem, proof, ra, root, spki, stored


def issued(ask=None, by=None) -> x509.Certificate:
    der = issue(by or issuer(), ask or good_ask(), Tickets(), now=NOW)
    return x509.load_der_x509_certificate(der)


def refuses(reason: SignerRefusal, ask, by=None, tickets=None) -> str:
    with pytest.raises(Refused) as caught:
        issue(by or issuer(), ask, tickets or Tickets(), now=NOW)
    assert caught.value.reason is reason, caught.value
    return caught.value.detail


# What is signed


def test_no_gateway_gets_an_authority_whatever_the_key_may_certify():
    """An online root's ceiling lets it certify authorities: ceremonies alone ask it to."""
    ask = good_ask(issuer="root", ca=True, path_length=0, key_usages=["keyCertSign"], sans=[])
    with pytest.raises(Refused, match="an authority is made by a ceremony") as caught:
        issuing_room.prepared(issuer_of(root()), ask)
    assert caught.value.reason is SignerRefusal.CEILING


def test_a_certificate_is_what_was_asked():
    ask = good_ask(
        crl_urls=["http://pki.example/a.crl", "http://pki.example/b.crl"],
        issuer_urls=["http://pki.example/a.crt"],
        ocsp_urls=["http://ocsp.example"],
    )
    made = issued(ask)
    made.verify_directly_issued_by(issuing().certificate)
    assert made.serial_number == int.from_bytes(ask.serial, "big")
    assert made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == ask.spki
    assert made.subject.rfc4514_string() == "CN=server.example"
    assert made.not_valid_before_utc == dt.datetime.fromtimestamp(ask.not_before, dt.UTC)
    assert made.not_valid_after_utc == dt.datetime.fromtimestamp(ask.not_after, dt.UTC)
    assert made.version is x509.Version.v3
    found = {each.oid: each for each in made.extensions}
    san = found[ExtensionOID.SUBJECT_ALTERNATIVE_NAME]
    assert (san.critical, list(san.value)) == (False, [x509.DNSName("server.example")])
    basic = found[ExtensionOID.BASIC_CONSTRAINTS]
    assert (basic.critical, basic.value) == (True, x509.BasicConstraints(ca=False, path_length=None))
    usage = found[ExtensionOID.KEY_USAGE]
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert list(found[ExtensionOID.EXTENDED_KEY_USAGE].value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    [point] = found[ExtensionOID.CRL_DISTRIBUTION_POINTS].value
    assert [each.value for each in point.full_name] == ask.crl_urls
    assert [each.access_location.value for each in found[ExtensionOID.AUTHORITY_INFORMATION_ACCESS].value] == [
        "http://ocsp.example",
        "http://pki.example/a.crt",
    ]
    aki = found[ExtensionOID.AUTHORITY_KEY_IDENTIFIER].value
    ski = issuing().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert aki.key_identifier == ski.digest


def test_every_kind_of_name_is_written():
    upn = "user" * 40 + "@corp.example"
    sans = [
        GeneralName("dns_name", "*.wild.example"),
        GeneralName("ip_address", "192.0.2.7"),
        GeneralName("ip_address", "2001:db8::7"),
        GeneralName("email", "dev@mail.example"),
        GeneralName("uri", "urn:uuid:0d5bb0d0-0000-4000-8000-000000000000"),
        GeneralName("upn", upn),
        GeneralName("upn", "ü@corp.example"),
        GeneralName("upn", "v" * 300 + "@corp.example"),
    ]
    ask = good_ask(sans=sans, extended_key_usages=["1.3.6.1.5.5.7.3.2"])
    names = issued(ask).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.wild.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("192.0.2.7"),
        ipaddress.ip_address("2001:db8::7"),
    ]
    assert names.get_values_for_type(x509.RFC822Name) == ["dev@mail.example"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [sans[4].value]
    texts = [each.value for each in names.get_values_for_type(x509.OtherName)]
    assert texts[0] == b"\x0c\x81" + bytes((len(upn),)) + upn.encode()
    assert texts[1] == b"\x0c\x0f" + "ü@corp.example".encode()
    assert texts[2][:4] == b"\x0c\x82" + (313).to_bytes(2, "big")


def test_the_order_of_a_subject_is_kept():
    subject = [("2.5.4.6", "DE"), ("2.5.4.10", "Example"), ("2.5.4.11", "Ops"), ("2.5.4.11", "Web"), ("2.5.4.3", "é")]
    assert [(each.oid.dotted_string, each.value) for each in issued(good_ask(subject=subject)).subject] == subject


@pytest.mark.parametrize("algorithm", ["RSA_2048", "EC_secp384r1", "EC_secp521r1", "ED25519", "ML-DSA-44"])
def test_a_subject_s_key_of_every_algorithm_is_certified(algorithm):
    made = issued(good_ask(spki=spki(algorithm)))
    assert made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki(algorithm)


@pytest.mark.parametrize(
    ("algorithm", "oid"),
    [
        ("RSA_2048", "1.2.840.113549.1.1.11"),
        ("EC_secp384r1", "1.2.840.10045.4.3.3"),
        ("EC_secp521r1", "1.2.840.10045.4.3.4"),
        ("ED25519", "1.3.101.112"),
        ("ML-DSA-65", "2.16.840.1.101.3.4.3.18"),
    ],
)
def test_every_kind_of_issuer_signs_in_its_own_way(algorithm, oid):
    made = issued(by=issuer(algorithm))
    made.verify_directly_issued_by(issuing(algorithm).certificate)
    assert made.signature_algorithm_oid.dotted_string == oid


def test_the_key_identifier_is_made_of_the_key_s_bits():
    """RFC 7093, 2, method 1: the SHA-256 of the BIT STRING's value, cut to 160 bits; no SHA-1."""
    for algorithm in ("EC_prime256v1", "RSA_2048", "ED25519"):
        made = issued(good_ask(spki=spki(algorithm)))
        key = made.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        else:
            bits = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        ski = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert ski.digest == hashlib.sha256(bits).digest()[:20]


LEAVES = {
    "tls server": {},
    "device without a subject": {"subject": [], "san_critical": True},
    "client": {"extended_key_usages": ["1.3.6.1.5.5.7.3.2"], "sans": [GeneralName("email", "a@mail.example")]},
    "rsa server": {"spki": "RSA_2048", "key_usages": ["digitalSignature", "keyEncipherment"]},
    "time stamping": {"extended_key_usages": ["1.3.6.1.5.5.7.3.8"], "sans": []},
    "code signing": {"extended_key_usages": ["1.3.6.1.5.5.7.3.3"], "sans": []},
    "upn": {"sans": [GeneralName("upn", "u@corp.example")], "extended_key_usages": ["1.3.6.1.5.5.7.3.2"]},
    "addresses": {"crl_urls": ["http://pki.example/a.crl"], "issuer_urls": ["http://pki.example/a.crt"]},
    "after 2050": {"not_before": 1_800_000_000, "not_after": 1_800_000_000 + 1000 * DAY},
    "bare": {"key_usages": [], "extended_key_usages": []},
}


@pytest.mark.parametrize("name", LEAVES)
def test_the_linter_finds_nothing_in_a_leaf(name):
    changes = dict(LEAVES[name])
    if "spki" in changes:
        changes["spki"] = spki(changes["spki"])
    assert lint(pem(issue(issuer(), good_ask(**changes), Tickets(), now=NOW))) == []


def test_the_linter_finds_nothing_in_an_authority():
    by = issuer_of(root())
    ask = good_ask(
        subject=[("2.5.4.3", "Sub CA")],
        sans=[],
        ca=True,
        path_length=1,
        key_usages=["keyCertSign", "cRLSign"],
        extended_key_usages=[],
    )
    der = issue(by, ask, Tickets(), now=NOW)
    assert lint(pem(der)) == []
    basic = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 1)
    for each in (root(), issuing(), ra()):
        assert lint(pem(each.certificate.public_bytes(Encoding.DER))) == []


def test_time_stamping_is_critical():
    """RFC 3161, 2.3."""
    made = issued(good_ask(extended_key_usages=["1.3.6.1.5.5.7.3.8"]))
    assert made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).critical
    assert not issued().extensions.get_extension_for_class(x509.ExtendedKeyUsage).critical


# Proof (D8)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        proof(kind="est-passphrase"),
        proof(kind=""),
        proof(kind="sudo"),
        proof(protocol="scep"),
        proof(enabled=[]),
        proof(enabled=["est"]),
        proof(request_hash=b""),
        proof(request_hash=bytes(31)),
        proof(request_hash=bytes(33)),
    ],
)
def test_nothing_is_signed_without_a_proof_of_the_pair_s_method(bad):
    """D8."""
    refuses(SignerRefusal.PROOF, good_ask(proof=bad))


def test_every_kind_of_proof_belongs_to_the_protocol_that_the_product_says():
    """D8: the signer's table is its own, and says what the domain's says."""
    assert {kind.value: protocol.value for kind, protocol in PROOF_PROTOCOL.items()} == KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", sorted(set(KINDS.values())))
def test_a_proof_of_one_protocol_authorizes_nothing_over_another(kind, protocol):
    """D8: every protocol with every other one's credentials."""
    ask = good_ask(proof=proof(kind=kind, protocol=protocol, enabled=["acme", "est", "scep", "api"]))
    if KINDS[kind] == protocol:
        issued(ask)
    else:
        refuses(SignerRefusal.PROOF, ask)


# Ceiling


def authority_ask(**changes):
    names = {"subject": [("2.5.4.3", "Sub CA")], "sans": [], "extended_key_usages": []}
    return good_ask(**{**names, "ca": True, "path_length": 0, "key_usages": ["keyCertSign", "cRLSign"], **changes})


def test_a_leaf_s_issuer_never_makes_an_authority():
    """D6."""
    refuses(SignerRefusal.CEILING, authority_ask())


def test_a_root_signs_authorities_only():
    refuses(SignerRefusal.CEILING, good_ask(), by=issuer_of(root()))


@pytest.mark.parametrize("path_length", [None, 2, 7])
def test_a_path_is_never_longer_than_the_issuer_s_own(path_length):
    """RFC 5280, 4.2.1.9: the root has 2, so 1 is the most below it."""
    refuses(SignerRefusal.CEILING, authority_ask(path_length=path_length), by=issuer_of(root()))


def test_an_issuer_of_path_length_zero_makes_no_authority_even_under_a_generous_ceiling():
    refuses(SignerRefusal.CEILING, authority_ask(), by=issuer(authorities=True))


def test_an_issuer_without_a_path_length_is_bound_by_its_ceiling():
    with_none = issuer_of(stored(KeyKind.ISSUER, "ED25519", (_self_signed_without_path_length(),)))
    assert with_none.path_length is None
    free = msgspec.structs.replace(with_none.key.ceiling, max_validity=400 * DAY, authorities=True)
    by = replace(with_none, key=replace(with_none.key, ceiling=free))
    issue(by, authority_ask(path_length=None), Tickets(), now=NOW)
    bound = msgspec.structs.replace(free, path_length=0)
    by = replace(with_none, key=replace(with_none.key, ceiling=bound))
    issue(by, authority_ask(path_length=0), Tickets(), now=NOW)
    refuses(SignerRefusal.CEILING, authority_ask(path_length=1), by=by)


def _self_signed_without_path_length() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Free")])
    start = dt.datetime.fromtimestamp(NOW - 400 * DAY, dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5, start, start + dt.timedelta(days=3000))
    return builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"not_after": NOW + 6 * 365 * DAY}, SignerRefusal.CEILING),
        ({"not_before": NOW - 2 * DAY}, SignerRefusal.TERM),
        ({"not_before": NOW + 3600 * DAY, "not_after": NOW + 3660 * DAY}, SignerRefusal.TERM),
    ],
)
def test_a_validity_stays_within_the_ceiling_and_the_issuer_s_own(changes, reason):
    """D4."""
    refuses(reason, good_ask(**changes))


def test_keys_of_an_algorithm_that_the_ceiling_leaves_out_are_refused():
    by = issuer(algorithms=["RSA_2048"])
    assert "EC_prime256v1" in refuses(SignerRefusal.CEILING, good_ask(), by=by)
    issued(good_ask(spki=spki("RSA_2048")), by=by)


def test_an_issuer_does_not_certify_its_own_key():
    own = issuer()
    refuses(SignerRefusal.CEILING, good_ask(spki=own.spki), by=own)


@pytest.mark.parametrize("oid", ["1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.27", "1.3.6.1.5.5.7.3.28", "2.5.29.37.0"])
def test_no_certificate_speaks_for_its_issuer_unless_the_ceiling_says_so(oid):
    """RFC 6960, 4.2.2.2: whoever holds such a leaf answers for the whole authority."""
    ask = good_ask(extended_key_usages=[oid], sans=[])
    refuses(SignerRefusal.CEILING, ask)
    issued(ask, by=issuer(extended_key_usages=[oid]))


def test_a_ceiling_of_usages_lets_nothing_else_through():
    by = issuer(extended_key_usages=["1.3.6.1.5.5.7.3.2"])
    refuses(SignerRefusal.CEILING, good_ask(), by=by)
    refuses(SignerRefusal.CEILING, good_ask(extended_key_usages=[]), by=by)


RANGES = [
    NameRange("dns_name", "example"),
    NameRange("ip_address", "192.0.2.0/24"),
    NameRange("email", "mail.example"),
    NameRange("uri", "anything"),
]


@pytest.mark.parametrize(
    ("kind", "value", "within"),
    [
        ("dns_name", "a.example", True),
        ("dns_name", "EXAMPLE", True),
        ("dns_name", "*.a.example", True),
        ("dns_name", "badexample", False),
        ("dns_name", "a.example.org", False),
        ("ip_address", "192.0.2.9", True),
        ("ip_address", "192.0.3.9", False),
        ("ip_address", "2001:db8::1", False),
        ("ip_address", "not an address", False),
        ("email", "x@mail.example", True),
        ("email", "x@mail.example.org", False),
        ("uri", "https://a.example/", False),
        ("upn", "x@mail.example", False),
    ],
)
def test_names_stay_within_the_ceiling_s_ranges(kind, value, within):
    ask = good_ask(sans=[GeneralName(kind, value)])
    by = issuer(names=RANGES)
    if within:
        issued(ask, by=by)
    else:
        refuses(SignerRefusal.CEILING, ask, by=by)


@pytest.mark.parametrize(
    ("common_name", "within"),
    [("server.example", True), ("bank.com", False), ("192.0.2.1", True), ("::1", False), ("A Person", True)],
)
def test_a_common_name_that_looks_like_a_host_stays_within_the_ranges_too(common_name, within):
    ask = good_ask(subject=[("2.5.4.10", "a.com"), ("2.5.4.3", common_name)])
    by = issuer(names=RANGES)
    if within:
        issued(ask, by=by)
    else:
        refuses(SignerRefusal.CEILING, ask, by=by)


@pytest.mark.parametrize(("address", "within"), [("x@mail.example", True), ("boss@bank.com", False)])
def test_an_e_mail_address_in_the_subject_stays_within_the_ranges_too(address, within):
    """RFC 5280, 4.2.1.10: old verifiers read it there."""
    ask = good_ask(subject=[("2.5.4.3", "A Person"), ("1.2.840.113549.1.9.1", address)])
    if within:
        issued(ask, by=issuer(names=RANGES))
    else:
        refuses(SignerRefusal.CEILING, ask, by=issuer(names=RANGES))


# Lint (RFC 5280)


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


# Ticket


def spend(tickets: Tickets, ticket: bytes, deadline: int, *, issuer: str, serial: int, now: int) -> None:
    tickets.spend(claim_of(issuer, serial.to_bytes(20, "big"), ticket, deadline), now=now)


def test_a_ticket_is_good_for_one_signature():
    tickets, ask = Tickets(), good_ask()
    issue(issuer(), ask, tickets, now=NOW)
    refuses(SignerRefusal.TICKET, ask, tickets=tickets)
    refuses(SignerRefusal.TICKET, good_ask(ticket=ask.ticket), tickets=tickets)


def test_a_serial_is_signed_once_per_issuer():
    tickets, ask = Tickets(), good_ask()
    issue(issuer(), ask, tickets, now=NOW)
    refuses(SignerRefusal.SERIAL, good_ask(serial=ask.serial), tickets=tickets)
    refuses(SignerRefusal.SERIAL, good_ask(serial=b"\0" + ask.serial), tickets=tickets)
    spend(tickets, os.urandom(16), NOW, issuer="another", serial=int.from_bytes(ask.serial, "big"), now=NOW)


def test_a_refused_ask_spends_nothing():
    tickets, ask = Tickets(), good_ask(subject=[("2.5.4.3", "")])
    refuses(SignerRefusal.LINT, ask, tickets=tickets)
    issue(issuer(), good_ask(ticket=ask.ticket, serial=ask.serial), tickets, now=NOW)


@pytest.mark.parametrize(
    "changes",
    [{"ticket": b""}, {"ticket": bytes(15)}, {"ticket": bytes(65)}, {"deadline": NOW - 1}, {"deadline": NOW + 100_000}],
)
def test_a_ticket_that_is_none_is_refused(changes):
    refuses(SignerRefusal.TICKET, good_ask(**changes))


def test_tickets_are_forgotten_after_their_deadline_and_the_clock_does_not_bring_them_back():
    tickets = Tickets()
    for n in range(1000):
        spend(tickets, n.to_bytes(16, "big"), NOW + n % 7, issuer="i", serial=n + 1, now=NOW)
    assert len(tickets) == 1000
    spend(tickets, b"t" * 16, NOW + 20, issuer="i", serial=5000, now=NOW + 10)
    assert len(tickets) == 1
    with pytest.raises(Refused) as caught:
        spend(tickets, bytes(16), NOW, issuer="i", serial=6000, now=NOW)  # the clock was set back
    assert caught.value.reason is SignerRefusal.TICKET


def test_a_clock_that_ran_ahead_and_was_set_right_keeps_no_ticket_out():
    """A machine starts before its clock is right, by eight hours: what was signed then stays signed."""
    tickets, ahead = Tickets(), NOW + 8 * 3600
    spend(tickets, b"a" * 16, ahead + 70, issuer="i", serial=1, now=ahead)
    spend(tickets, b"b" * 16, NOW + 70, issuer="i", serial=2, now=NOW)
    for ticket, serial, reason in ((b"b" * 16, 3, SignerRefusal.TICKET), (b"c" * 16, 1, SignerRefusal.SERIAL)):
        with pytest.raises(Refused) as caught:
            spend(tickets, ticket, NOW + 70, issuer="i", serial=serial, now=NOW)
        assert caught.value.reason is reason


def test_serials_are_kept_for_two_generations_and_memory_stays_bounded():
    tickets = Tickets(generation=10)
    for serial in range(1, 36):
        spend(tickets, os.urandom(16), NOW, issuer="i", serial=serial, now=NOW)
    for serial in range(21, 36):
        with pytest.raises(Refused):
            spend(tickets, os.urandom(16), NOW, issuer="i", serial=serial, now=NOW)
    spend(tickets, os.urandom(16), NOW, issuer="i", serial=1, now=NOW)
    assert GENERATION >= 1000
    assert HORIZON >= 120


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_no_ticket_and_no_serial_is_ever_spent_twice(spends):
    """Whatever the order of tickets, serials, deadlines and clocks: within its deadline a ticket works once."""
    tickets, spent, signed, latest = Tickets(), {}, set(), 0
    for ticket, serial, deadline, now in spends:
        latest = max(latest, now)
        try:
            spend(tickets, bytes((ticket,)) * 16, deadline, issuer="i", serial=serial, now=now)
        except Refused:
            continue
        assert spent.get(ticket, -1) < latest <= deadline
        assert serial not in signed
        spent[ticket] = deadline
        signed.add(serial)


# Issuers


def test_an_ra_s_key_is_no_issuer():
    with pytest.raises(Refused) as caught:
        issuer_of(ra())
    assert caught.value.reason is SignerRefusal.WRONG_KIND


@pytest.mark.parametrize("extensions", [[], [x509.BasicConstraints(False, None)], "no cert sign"])
def test_a_leaf_s_key_is_no_issuer(extensions):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    start = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5, start, start + dt.timedelta(days=1))
    if extensions == "no cert sign":
        usage = x509.KeyUsage(True, False, False, False, False, False, True, False, False)
        extensions = [x509.BasicConstraints(True, None), usage]
    for each in extensions:
        builder = builder.add_extension(each, critical=True)
    with pytest.raises(Refused) as caught:
        issuer_of(stored(KeyKind.ISSUER, "ED25519", (builder.sign(key, hashes.SHA256()),)))
    assert caught.value.reason is SignerRefusal.WRONG_KIND


def test_nothing_in_the_room_signs_bytes_of_somebody_s_choice():
    """The only callers of a private key's `sign` are the builders and the attributes that were parsed."""
    room = pathlib.Path(issuing_room.__file__).parent
    signing = {each.name for each in room.glob("*.py") if ".sign(" in each.read_text()}
    assert signing == {"issue.py", "ra.py", "responder.py", "signature.py"}
