"""D2: patterns over canonical names."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.identifier import canonical
from gateway.domain.pattern import InvalidPattern, denied_pattern, san_pattern, subject_pattern
from gateway.domain.request import SanType

DNS, IP, EMAIL, URI, UPN = SanType.DNS_NAME, SanType.IP_ADDRESS, SanType.EMAIL, SanType.URI, SanType.UPN


@pytest.mark.parametrize(
    ("kind", "pattern", "yes", "no"),
    [
        (DNS, "www.example.com", ["www.example.com"], ["example.com", "a.www.example.com", "wwwxexample.com"]),
        (DNS, "WWW.Example.COM", ["www.example.com"], ["www.example.org"]),
        (DNS, "*.example.com", ["a.example.com", "*.example.com"], ["example.com", "a.b.example.com", "aexample.com"]),
        (DNS, "**.example.com", ["a.example.com", "a.b.example.com", "*.example.com"], ["example.com", "badexample.com"]),
        (DNS, "web-*.example.com", ["web-1.example.com", "web-10.example.com"], ["web-1.b.example.com", "*.example.com", "db-1.example.com"]),
        (DNS, "*.*.example.com", ["a.b.example.com"], ["a.example.com", "a.b.c.example.com"]),
        (DNS, "a.**.z.com", ["a.b.z.com", "a.b.c.z.com"], ["a.z.com", "b.a.b.z.com"]),
        (DNS, "**a*b.com", ["a.ab.com", "ab.com", "x.a1b.com"], ["a.b.com", "a.com"]),
        (DNS, "*", ["localhost"], ["a.b"]),
        (DNS, "**", ["localhost", "a.b", "*.a.b"], []),
        (DNS, "***", ["a.b"], []),
        (IP, "10.0.0.1", ["10.0.0.1"], ["10.0.0.2", "::1"]),
        (IP, "10.0.0.0/8", ["10.255.0.1"], ["11.0.0.1", "::10.0.0.1"]),
        (IP, "2001:DB8::/32", ["2001:db8:1::1"], ["2001:db9::1", "32.1.13.184"]),
        (IP, "*", ["10.0.0.1", "::1"], []),
        (EMAIL, "*@Example.com", ["Joe.Doe@example.com"], ["joe@a.example.com", "joe@example.org"]),
        (EMAIL, "joe@*.example.com", ["joe@a.example.com"], ["Joe@a.example.com", "joe@example.com"]),
        (EMAIL, "*.ops@**", ["a.b.ops@example.com", "x.ops@a.b.c"], ["ops@example.com"]),
        (EMAIL, "**", ["a@b.c"], []),
        (UPN, "*-ADM@Corp.Example", ["joe-adm@corp.example", "JOE-ADM@corp.example"], ["joe@corp.example"]),
        (UPN, "*", ["a@b.c"], []),
        (URI, "https://example.com/a", ["https://example.com/a"], ["https://example.com/ab", "http://example.com/a"]),
        (URI, "HTTPS://Example.com:443/%7ea/*", ["https://example.com/~a/b"], ["https://example.com/~a/b/c"]),
        (URI, "https://*.example.com/**", ["https://a.example.com/x/y?z"], ["https://example.com/x", "https://evil.org/a.example.com/x", "https://a.b.example.com/x"]),
        (URI, "https://**.example.com/**", ["https://a.b.example.com/x"], ["https://evil.org/a.example.com/x", "https://evil.org?a.example.com/x"]),
        (URI, "https://**", ["https://a.b/c/d"], ["http://a.b/c"]),
        (URI, "spiffe://example.org/ns/*/sa/*", ["spiffe://example.org/ns/v1.2/sa/web"], ["spiffe://example.org/ns/a/b/sa/web", "spiffe://example.org.evil/ns/a/sa/b"]),
        (URI, "spiffe://*/x", ["spiffe://a/x"], ["spiffe://a.b/x", "spiffe://a:1/x"]),
        (URI, "urn:uuid:*", ["urn:uuid:f81d4fae"], ["urn:oid:1", "urn:uuid:a:b"]),
        (URI, "urn:**", ["urn:a:b/c"], ["urm:a"]),
        (URI, "**", ["https://a/b", "urn:a"], []),
    ],
)  # fmt: skip
def test_patterns_match_as_documented(kind, pattern, yes, no):
    matches = san_pattern(kind, pattern)
    assert [text for text in yes if not matches(canonical(kind, text))] == []
    assert [text for text in no if matches(canonical(kind, text))] == []


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        (DNS, ""), (DNS, "a..b"), (DNS, "*.example.com."), (DNS, "under_score.*"), (DNS, "a b"), (DNS, "-*.com"), (DNS, "*.10"), (DNS, "bücher.*"),
        (IP, "10.0.0.1/8"), (IP, "10.*"), (IP, "example.com"), (IP, "10.0.0.0/33"),
        (EMAIL, "example.com"), (EMAIL, "@example.com"), (EMAIL, "a@b@c.example"), (EMAIL, "a@"), (UPN, "corp.example"),
        (URI, "example.com"), (URI, "*://example.com"), (URI, "https:"), (URI, ":x"), (URI, "x" * 1025),
    ],
)  # fmt: skip
def test_a_pattern_that_can_match_nothing_is_refused_when_it_is_written(kind, pattern):
    with pytest.raises(InvalidPattern):
        san_pattern(kind, pattern)


@pytest.mark.parametrize(
    ("denied", "covered", "free"),
    [
        ("admin.example.com", ["admin.example.com", "*.example.com"], ["*.a.example.com", "www.example.com"]),
        ("adm*.example.com", ["*.example.com"], ["*.example.org", "*.admin.example.com"]),
        ("**.secret.example.com", ["*.secret.example.com", "*.a.secret.example.com"], ["*.example.com"]),
        ("**", ["*.example.com"], []),
        ("*.example.com", ["*.example.com"], ["*.b.example.com"]),
        ("a.b.example.com", ["*.b.example.com"], ["*.example.com"]),
    ],
)
def test_a_wildcard_that_would_cover_a_denied_name_is_denied(denied, covered, free):
    """D3: denied wins over everything, also in disguise."""
    matches = denied_pattern(DNS, denied)
    assert [name for name in covered if not matches(name)] == []
    assert [name for name in free if matches(name)] == []


def test_other_kinds_are_denied_as_they_are_allowed():
    assert denied_pattern(IP, "10.0.0.0/8")("10.1.2.3")
    assert not denied_pattern(EMAIL, "*@example.com")("a@example.org")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["anything", "ü"], []),
        ("Example *", ["Example Ltd", "EXAMPLE "], ["Examples"]),
        ("straße", ["STRASSE"], ["strase"]),
        ("*.example.com", ["a.b.example.com"], ["example.com"]),
        ("a*b*c", ["abc", "axxbyyc"], ["acb"]),
    ],
)
def test_subject_patterns_match_without_regard_to_case_and_labels(pattern, yes, no):
    matches = subject_pattern(pattern)
    assert [text for text in yes if not matches(text)] == []
    assert [text for text in no if matches(text)] == []


def test_an_empty_subject_pattern_is_refused():
    with pytest.raises(InvalidPattern):
        subject_pattern("")


LABELS = st.lists(st.text(alphabet="ab1", min_size=1, max_size=4), min_size=1, max_size=4).map(".".join)


@given(
    pattern=st.text(alphabet="ab*.", min_size=1, max_size=10).map(lambda text: f"{text}.com"),
    name=LABELS.map(lambda text: f"{text}.com"),
)
def test_host_patterns_agree_with_the_same_pattern_as_a_regular_expression(pattern, name):
    try:
        matches = san_pattern(DNS, pattern)
    except InvalidPattern:
        return
    parts = re.findall(r"\*+|[^*]+", pattern)
    expression = "".join(re.escape(p) if p[0] != "*" else "[^.]*" if p == "*" else ".*" for p in parts)
    assert matches(name) == (re.fullmatch(expression, name) is not None)


@given(
    denied=st.text(alphabet="ab*.", min_size=1, max_size=8).map(lambda text: f"{text}.com"),
    label=st.text(alphabet="ab", min_size=1, max_size=4),
    rest=LABELS,
)
def test_no_certificate_for_a_wildcard_serves_for_a_name_that_is_denied(denied, label, rest):
    try:
        matches = denied_pattern(DNS, denied)
    except InvalidPattern:
        return
    if matches(f"{label}.{rest}.com"):
        assert matches(f"*.{rest}.com")


def test_a_hostile_name_costs_no_more_than_its_length():
    """A backtracking matcher would take years for this one."""
    matches = san_pattern(URI, "https://example.com/" + "**a" * 100 + "b")
    began = time.process_time()
    assert not matches("https://example.com/" + "a" * 2000)
    assert time.process_time() - began < 1


def test_the_table_of_characters_does_not_grow_with_what_peers_send():
    matches = subject_pattern("a*z")
    assert matches("a" + "".join(chr(0x4E00 + i) for i in range(2000)) + "z")
    assert matches("a" + "".join(chr(0x4E00 + i) for i in range(2000)) + "z")
