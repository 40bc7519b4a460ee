"""One issuance: what is signed, and by what proof. What is refused has files of its own: ceiling, lint, ticket."""

import datetime as dt
import hashlib
import ipaddress
import pathlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from gateway.domain.request import PROOF_PROTOCOL
from signer.ceremony import DAY
from signer.contract.messages import GeneralName
from signer.contract.refusal import SignerRefusal
from signer.issuance import issue as issuing_room
from signer.issuance.issuer import issuer_of
from signer.issuance.proof import KINDS
from signer.issuance.refused import Refused
from signer.issuance.ticket import Tickets
from signer.keystore.key import KeyKind
from tests.doubles.verification import lint
from tests.signer.kit import NOW, good_ask, issue, issued, issuer, issuing, pem, proof, ra, refuses, root, spki, stored


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
