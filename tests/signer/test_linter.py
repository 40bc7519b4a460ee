"""The fast lint before a signature against a linter that reads the certificate after it: what ours lets through is clean.

pkilint's PKIX rules are those of RFC 5280 and its companions, written by other people.
"""

import os

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from signer.contract.messages import GeneralName
from signer.issuance import lint as ours
from signer.issuance.refused import Refused
from signer.issuance.ticket import Tickets
from signer.issuance.usage import KEY_USAGES
from tests.doubles.verification import lint
from tests.signer.kit import NOW, good_ask, issue, issuer, pem, spki

DAY = 86400
ALGORITHMS = ["EC_prime256v1", "RSA_2048", "ED25519", "ML-DSA-44"]
EXTENDED = [f"1.3.6.1.5.5.7.3.{each}" for each in (1, 2, 3, 4, 8, 17)] + ["1.3.6.1.4.1.311.20.2.2", "2.5.29.37.1"]

# Near what each shape allows, so that much of it passes and the rest tests nothing but our own patience.
label = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
# Three things of ours pkilint calls errors, and RFC 5280 does not: names of one label (hosts of an intranet), wildcards
# (4.2.1.6 leaves them to applications), and a domain component that stands alone. Nor does it know URNs. An e-mail
# address in a subject belongs into the alternative names too (4.2.1.6), which is for the plan to say. None is drawn.
host = st.lists(label, min_size=1, max_size=3).map(lambda each: ".".join([*each, "example"]))
word = st.text(st.characters(codec="utf-8"), min_size=1, max_size=70)
shaped = st.from_regex(r"[A-Za-z0-9 '()+,./:=?@&-]{1,70}", fullmatch=True)
mailbox = st.builds("{}@{}".format, st.from_regex(r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,12}", fullmatch=True), host)
address = st.ip_addresses().map(str)
uri = st.from_regex(r"(?:https?|ldap)://?[a-z0-9]{1,9}\.example(?:/[a-z0-9.:/?#@%-]{0,20})?", fullmatch=True)
DOMAIN_COMPONENT, EMAIL_ADDRESS = "0.9.2342.19200300.100.1.25", "1.2.840.113549.1.9.1"
drawn = sorted(set(ours.ATTRIBUTES) - {DOMAIN_COMPONENT, EMAIL_ADDRESS})
attribute = st.tuples(st.sampled_from(drawn), word | shaped | mailbox | label | st.just("DE"))
name = st.one_of(
    st.builds(GeneralName, st.just("dns_name"), host),
    st.builds(GeneralName, st.just("ip_address"), address),
    st.builds(GeneralName, st.just("email"), mailbox),
    st.builds(GeneralName, st.just("uri"), uri),
    st.builds(GeneralName, st.just("upn"), mailbox | word.map(lambda each: f"{each}@corp")),
)
url = st.from_regex(r"https?://[a-z]{1,9}\.example(?::[1-9][0-9]{1,3})?/[a-zA-Z0-9/._~%-]{0,20}", fullmatch=True)
urls = st.lists(url, max_size=2)


@st.composite
def asks(draw):
    """An ask of any kind; only what nearly passes is worth drawing."""
    subject = draw(st.lists(attribute, max_size=4))
    begins = draw(st.integers(NOW - 5 * DAY // 10, NOW))
    return good_ask(
        spki=spki(draw(st.sampled_from(ALGORITHMS))),
        subject=subject,
        sans=draw(st.lists(name, max_size=4)),
        san_critical=not subject,
        key_usages=draw(st.lists(st.sampled_from(KEY_USAGES[:5]), max_size=2, unique=True)),
        extended_key_usages=draw(st.lists(st.sampled_from(EXTENDED), max_size=2, unique=True)),
        serial=bytes((draw(st.integers(1, 0x7F)),)) + os.urandom(15),
        not_before=begins,
        not_after=begins + draw(st.integers(1, 1800)) * DAY,
        crl_urls=draw(urls),
        issuer_urls=draw(urls),
        ocsp_urls=draw(urls),
    )


def signed(ask, by):
    try:
        return issue(by, ask, Tickets(), now=NOW)
    except Refused:
        return None


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(asks())
def test_what_our_lint_lets_through_has_no_error_of_pkilint_s(ask):
    der = signed(ask, issuer())
    assume(der is not None)
    assert [each for each in lint(pem(der)) if not each.startswith("WARNING")] == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("uri", "https://api.example/device/7?x=%2f#top", "https://api.example/%2"),
        ("uri", "urn:uuid:0d5bb0d0-0000-4000-8000-000000000000", "urn:uuid"),
        ("uri", "urn:dev:mac:0024befffe804ff1", "urn:-:x"),
        ("uri", "spiffe://trust.example/agent", "spiffe:/agent"),
        ("uri", "ldap://[2001:db8::7]/o=Example", "ldap:///o=Example"),
        ("uri", "tag:example.org,2026:x", "tag:example.org,2026:a b"),
        ("uri", "x:y", "x:<y>"),
        ("uri", "sip:alice@example.org", "sip:"),
        ("uri", "https://a.example/#one", "https://a.example/#one#two"),
        ("email", "a.b+c@mail.example", ".a@mail.example"),
        ("email", "o'neill@mail.example", "a..b@mail.example"),
        ("email", "a@intranet", "a@192.0.2.7"),
        ("email", f"{'a' * 64}@mail.example", f"{'a' * 65}@mail.example"),
    ],
)
def test_a_name_is_of_its_kind_s_own_syntax(kind, good, bad):
    """RFC 5280, 4.2.1.6, with RFC 3986 and RFC 5321, 4.1.2."""
    assert ours.san_fault(GeneralName(kind, good)) is None
    assert "4.2.1.6" in ours.san_fault(GeneralName(kind, bad))


@pytest.mark.parametrize(
    "good", ["http://pki.example/ca/x.crl", "https://[2001:db8::7]:8443/ca/x.crl", "http://pki.example:80/x?y=%20"]
)
def test_a_publication_has_a_url_of_the_web(good):
    assert signed(good_ask(crl_urls=[good]), issuer()) is not None


@pytest.mark.parametrize(
    "bad",
    ["http://", "http:/x", "http://a b/", "http://user:word@pki.example/", "http://pki.example:0/x", "http://pki.example:080/",
     "http://pki.example/%zz", "http://pki.example/" + "x" * 2000, "ldap://pki.example/", "HTTP"],
)  # fmt: skip
def test_what_is_no_url_of_the_web_is_not_a_publication_s(bad):
    assert signed(good_ask(crl_urls=[bad]), issuer()) is None


def test_an_e_mail_address_in_a_subject_is_one():
    assert signed(good_ask(subject=[("1.2.840.113549.1.9.1", "a@mail.example")]), issuer()) is not None
    assert signed(good_ask(subject=[("1.2.840.113549.1.9.1", "a@*.mail.example")]), issuer()) is None
