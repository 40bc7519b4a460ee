"""Ids of our own and canonical names (D2, A43)."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import identifier
from gateway.domain.identifier import (
    InvalidName,
    canonical,
    dns_name,
    email,
    ip_address,
    new_id,
    new_serial,
    quoted,
    upn,
    uri,
)
from gateway.domain.request import SanType

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.builds(
    lambda labels, top: ".".join([*labels, top]),
    st.lists(LABEL, max_size=5),
    st.sampled_from(["com", "xn--p1ai", "a1"]),
)


@given(st.binary(min_size=10, max_size=10))
def test_an_id_is_a_version_7_uuid_of_its_millisecond(random):
    """RFC 9562, 5.7."""
    made = uuid.UUID(new_id(NOW, lambda n: random[:n]))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == int(NOW.timestamp() * 1000)
    assert made.int & (2**62 - 1) == int.from_bytes(random) & (2**62 - 1)
    assert str(made) == new_id(NOW, lambda n: random[:n])


def test_ids_sort_by_time():
    dice = [b"\xff" * 10, bytes(10)]
    ids = [new_id(NOW + timedelta(milliseconds=i), lambda _, i=i: dice[i % 2]) for i in range(300)]
    assert ids == sorted(ids)


@given(
    st.binary(min_size=10, max_size=10),
    st.integers(0, 250_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_a_serial_is_positive_of_sixteen_bytes_and_holds_80_random_bits(random, now):
    """D6; RFC 5280, 4.1.2.2: at most 20 bytes, and the first bit of the first says that it is not negative."""
    made = new_serial(now, lambda n: random[:n])
    assert made.bit_length() == 127
    assert made & (2**80 - 1) == int.from_bytes(random)


def test_serials_sort_by_time_in_the_store_s_hexadecimal():
    """So that those of one moment stand on one page of their index, whatever the dice say."""
    dice = [b"\xff" * 10, bytes(10)]
    serials = [f"{new_serial(NOW + timedelta(milliseconds=i), lambda _, i=i: dice[i % 2]):x}" for i in range(300)]
    assert serials == sorted(serials)


def test_a_name_in_a_sentence_is_escaped_and_short():
    assert quoted('a"b\n\x1b\u202e') == '"a\\"b\\n\\x1b\\u202e"'
    assert len(quoted("x" * 5000)) == 102


@given(NAME)
def test_a_dns_name_is_canonical_in_lower_case(name):
    assert dns_name(name.upper()) == name
    assert dns_name(name) == name
    assert dns_name(f"*.{name}") == f"*.{name}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "labels"),
        (".", "dot at its end"),
        ("example.com.", "dot at its end"),
        ("a..b", "labels"),
        (".example.com", "labels"),
        ("-a.example", "labels"),
        ("a-.example", "labels"),
        ("under_score.example", "labels"),
        ("a b.example", "labels"),
        ("example.com\n", "labels"),
        ("x" * 64 + ".example", "labels"),
        (".".join(["x" * 63] * 4), "253"),
        ("bücher.example", "A-labels"),
        ("\uff21\uff22.example", "A-labels"),
        ("\u212a.example", "A-labels"),  # the Kelvin sign, which becomes k in lower case
        ("*", "wildcard"),
        ("*.", "dot at its end"),
        ("a.*.example", "wildcard"),
        ("*a.example", "wildcard"),
        ("*.*.example", "wildcard"),
        ("10.0.0.1", "last label is a number"),
        ("*.1", "last label is a number"),
    ],
)
def test_what_is_no_dns_name_is_refused_with_a_reason(name, why):
    with pytest.raises(InvalidName, match=why):
        dns_name(name)


def test_the_longest_dns_name_is_accepted():
    name = ".".join(["x" * 63, "y" * 63, "z" * 63, "w" * 61])
    assert len(name) == 253
    assert dns_name(name) == name


@given(st.ip_addresses(v=4).map(str))
def test_an_ipv4_address_stays_itself(address):
    assert ip_address(address) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [("2001:DB8::0:1", "2001:db8::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("::1", "::1")],
)
def test_an_ipv6_address_is_printed_as_rfc_5952_says(text, address):
    assert ip_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4/32", "01.2.3.4", "fe80::1%eth0", "::ffff:10.0.0.1", "localhost", " 1.2.3.4"]
)
def test_what_is_no_address_of_its_own_is_refused(text):
    with pytest.raises(InvalidName):
        ip_address(text)


def test_a_mailbox_keeps_its_local_part_and_lowers_its_domain():
    assert email("First.Last+tag@Example.COM") == "First.Last+tag@example.com"


@pytest.mark.parametrize(
    "text",
    ["", "a", "@example.com", "a@", "a b@example.com", '"a b"@example.com', "a..b@example.com", ".a@example.com", "a@b@example.com",
     "a@*.example.com", "a@under_score.com", "x" * 65 + "@example.com", "x@" + ".".join(["y" * 63] * 3 + ["zz" * 31]), "ä@example.com"],
)  # fmt: skip
def test_what_is_no_mailbox_is_refused(text):
    with pytest.raises(InvalidName):
        email(text)


def test_a_user_principal_name_lowers_its_realm():
    assert upn("Jörg.Müller@Corp.Example") == "Jörg.Müller@corp.example"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "user",
        "@corp.example",
        "a b@corp.example",
        "a@b@corp.example",
        "u\n@corp.example",
        "u@",
        "u@*.corp.example",
        "u" * 260 + "@c.example",
    ],
)
def test_what_is_no_user_principal_name_is_refused(text):
    with pytest.raises(InvalidName):
        upn(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("HTTPS://Example.COM/a", "https://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:/a", "https://example.com/a"),
        ("https://example.com:8443/a", "https://example.com:8443/a"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]/x"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        ("https://example.com/a/../b/./c/..", "https://example.com/b/"),
        ("https://example.com/../../x", "https://example.com/x"),
        ("https://example.com/.well-known/x", "https://example.com/.well-known/x"),
        ("https://example.com/.", "https://example.com/"),
        ("https://example.com/%7euser/%2e%2e/%c3%bc", "https://example.com/%C3%BC"),
        ("spiffe://Example.Org/ns/Prod/sa/web", "spiffe://example.org/ns/Prod/sa/web"),
        ("spiffe://trust_domain", "spiffe://trust_domain"),
        ("URN:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"),
        ("mailto:a@example.com", "mailto:a@example.com"),
        ("https://example.com/x?b=%2f#f", "https://example.com/x?b=%2F#f"),
    ],
)
def test_a_uri_is_normalised(text, normal):
    """RFC 3986, 6.2.2; D2."""
    assert uri(text) == normal
    assert uri(normal) == normal


@pytest.mark.parametrize(
    "text",
    ["", "example.com", "/a", "https:", "https://", "https:///a", "https://user@example.com/", "https://a:b@example.com/", "https://ex ample.com",
     "https://example.com/ü", "https://example.com/%zz", "https://example.com/%", "https://example.com:x/", "https://example.com:99999/", "https://[::1/",
     "https://ex%61mple.com%2f/", "https://exa$mple.com/", "urn:", "https://example.com/\n", "x:" + "y" * 2048, "https://example.com@evil.example/"],
)  # fmt: skip
def test_what_is_no_uri_of_a_certificate_is_refused(text):
    with pytest.raises(InvalidName):
        uri(text)


@pytest.mark.parametrize("kind", list(SanType))
@given(text=st.one_of(st.text(max_size=60), st.from_regex(r"[a-z]{1,6}:(//)?[ -~]{0,40}", fullmatch=True), NAME))
def test_canonical_forms_are_stable_and_anything_else_is_refused_by_name(kind, text):
    try:
        once = canonical(kind, text)
    except InvalidName as invalid:
        assert str(invalid)  # noqa: PT017 - the sentence is what the peer sees
    else:
        assert canonical(kind, once) == once


@given(st.text(alphabet="%0123456789abcdefABCDEF.~/-", max_size=40))
def test_undoing_escapes_once_is_enough(text):
    """RFC 3986, 2.4: never decode twice."""
    path = "x://h/" + text
    try:
        once = uri(path)
    except InvalidName:
        return
    assert identifier.unescaped(once) == once
