"""Names: canonical forms, and that none is lost (RFC 5280, 4.2.1.6; RFC 4514; A43, A84)."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain import identifier
from protocols.exchange import Malformed, Reason, Refused
from protocols.pkix import names
from protocols.pkix.names import AlternativeName, Attribute
from tests.doubles.pkcs10 import tlv

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def one(name: x509.GeneralName) -> AlternativeName:
    (found,) = names.alternative_names([name])
    return found


def test_each_kind_of_alternative_name_has_its_canonical_form():
    assert one(x509.DNSName("WWW.Example")) == AlternativeName("dns_name", "www.example")
    assert one(x509.IPAddress(ipaddress.ip_address("2001:0DB8:0:0::1"))) == AlternativeName("ip_address", "2001:db8::1")
    assert one(x509.RFC822Name("John.Doe@EXAMPLE.com")) == AlternativeName("email", "John.Doe@example.com")
    uri = x509.UniformResourceIdentifier("HTTPS://User@Example.COM:443/Path?Query")
    assert one(uri) == AlternativeName("uri", "https://User@example.com:443/Path?Query")
    assert one(x509.UniformResourceIdentifier("URN:Device:1")) == AlternativeName("uri", "urn:Device:1")
    assert one(x509.UniformResourceIdentifier("spiffe://Trust.Domain")) == AlternativeName(
        "uri", "spiffe://trust.domain"
    )
    assert one(x509.OtherName(UPN, tlv(0x0C, "müller@x".encode()))) == AlternativeName("upn", "müller@x")


def test_names_of_other_kinds_are_kept_with_their_der():
    # CVE-2022-34831: an extra name of another kind must never pass through unseen
    registered = one(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")))
    assert registered == AlternativeName("other:registered_id", "88022a03")
    directory = one(x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])))
    assert directory.type == "other:directory_name"
    assert directory.value.startswith("a4")
    network = one(x509.IPAddress(ipaddress.ip_network("192.0.2.0/24")))
    assert network == AlternativeName("other:ip_network", "8708c0000200ffffff00")
    other = one(x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), tlv(0x04, b"\1")))
    assert other.type == "other:1.3.6.1.5.5.7.8.4"


@pytest.mark.parametrize("value", [b"", tlv(0x13, b"a"), tlv(0x0C, b"\xff"), tlv(0x0C, b"abc")[:-1]])
def test_a_user_principal_name_of_another_form_is_malformed(value):
    with pytest.raises(Malformed):
        one(x509.OtherName(UPN, value))


def test_attributes_keep_their_order():
    name = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.COMMON_NAME, "a")],
    )
    assert names.attributes(name) == (Attribute("2.5.4.6", "DE"), Attribute("2.5.4.3", "a"))


def test_an_attribute_that_is_no_text_is_refused():
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0\1", x509.name._ASN1Type.BitString)
    with pytest.raises(Refused) as caught:
        names.attributes(x509.Name([bits]))
    assert caught.value.reason is Reason.BAD_CSR


@pytest.mark.parametrize(
    ("given_", "canonical"),
    [
        ("Example.COM", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("localhost", "localhost"),
        ("1a.2b", "1a.2b"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_dns_names_become_lower_case_a_labels(given_, canonical):
    # A43
    assert names.canonical_dns(given_) == canonical


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ".",
        "example.com.",
        ".example.com",
        "a..b",
        "-a.example",
        "a-.example",
        "a_b.example",
        "a b.example",
        "*.*.example",
        "a.*.example",
        "*a.example",
        "*",
        "*.",
        "müller.example",
        "a" * 64 + ".example",
        ".".join(["a" * 49] * 5) + ".abcd",
        "192.0.2.1",
        "a.1",
        "a\n.example",
        "example.com\n",
        "\uff41.example",
        "\u212a.example",  # its lower case is an ASCII k
    ],
)
def test_what_is_no_dns_name_is_told_why(wrong):
    # A43
    with pytest.raises(ValueError, match=r"^(is|has|ends) "):
        names.canonical_dns(wrong)


@pytest.mark.parametrize(
    ("given_", "canonical"),
    [("192.0.2.1", "192.0.2.1"), ("2001:0db8:0000::0001", "2001:db8::1"), ("FF02::0:1", "ff02::1")],
)
def test_addresses_become_what_rfc_5952_writes(given_, canonical):
    assert names.canonical_ip(given_) == canonical


@pytest.mark.parametrize(
    "wrong", ["", "192.0.2", "192.0.02.1", "[::1]", "fe80::1%eth0", "example.com", "192.0.2.0/24", "::ffff:192.0.2.1"]
)
def test_what_is_no_address_is_told_why(wrong):
    with pytest.raises(ValueError, match=r"^(is|has) "):
        names.canonical_ip(wrong)


@given(st.text(max_size=80))
def test_canonical_forms_are_fixed_points(text):
    for form in (names.canonical_dns, names.canonical_ip, names.canonical_email, names.canonical_uri):
        try:
            once = form(text)
        except ValueError:
            continue
        assert form(once) == once


@given(st.text("aZ0-_.*\u212a", max_size=12) | st.text(max_size=8))
@example("*.A.example")
@example("a.1")
def test_a_dns_name_that_is_accepted_is_written_as_the_policy_writes_it(text):
    # What was authorized, what is judged and what is issued are one spelling.
    try:
        accepted = names.canonical_dns(text)
    except ValueError:
        return
    assert identifier.dns_name(accepted) == identifier.dns_name(text) == accepted


@given(st.ip_addresses().map(str) | st.text("0123456789abcdef:.%", max_size=20))
@example("::ffff:192.0.2.1")
def test_an_address_that_is_accepted_is_written_as_the_policy_writes_it(text):
    try:
        accepted = names.canonical_ip(text)
    except ValueError:
        return
    assert identifier.ip_address(accepted) == identifier.ip_address(text) == accepted


def test_a_distinguished_name_is_written_as_rfc_4514_does():
    # RFC 4514, 4
    given_ = (
        Attribute("2.5.4.6", "GB"),
        Attribute("2.5.4.7", "L. Eagle"),
        Attribute("2.5.4.10", "Sue, Grabbit and Runn"),
        Attribute("1.2.3.4", ' #"x" '),
    )
    assert names.rfc4514(given_) == '1.2.3.4=\\ #\\"x\\"\\ ,O=Sue\\, Grabbit and Runn,L=L. Eagle,C=GB'
    assert names.rfc4514((Attribute("2.5.4.3", "Before\rAfter"),)) == "CN=Before\\0dAfter"
    assert names.rfc4514((Attribute("2.5.4.3", " "),)) == "CN=\\ "
    assert names.rfc4514((Attribute("2.5.4.3", "#1"),)) == "CN=\\#1"
    assert names.rfc4514(()) == ""


@given(
    st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), max_size=4)
)
def test_what_is_written_is_read_again_by_another_reader(values):
    subject = tuple(Attribute("2.5.4.11", value) for value in values)
    read = x509.Name.from_rfc4514_string(names.rfc4514(subject))
    assert [attribute.value for attribute in read] == values
