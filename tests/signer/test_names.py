"""Name constraints (RFC 5280, 4.2.1.10): names within subtrees, subtrees within subtrees, and what the signer refuses."""

import datetime as dt
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from signer.ceremony import Plan
from signer.contract.messages import GeneralName
from signer.contract.refusal import SignerRefusal
from signer.issuance.ceiling import check
from signer.issuance.issuer import issuer_of
from signer.issuance.names import Bounds, beyond, bounds_of, general_name, inside, outside, subject_outside
from signer.issuance.refused import Refused
from signer.keystore.key import NameRange
from tests.signer.kit import COMMON_NAME, MemoryStore, ceremony, good_ask, spki

EMAIL = "1.2.840.113549.1.9.1"


def permitted(kind: str, *values: str) -> Bounds:
    return Bounds(permitted=tuple(NameRange(kind, each) for each in values))


def excluded(kind: str, *values: str) -> Bounds:
    return Bounds(excluded=tuple(NameRange(kind, each) for each in values))


@pytest.mark.parametrize(
    ("kind", "subtree", "within", "without"),
    [
        ("dns_name", "example.com", ["example.com", "A.Example.COM", "*.example.com", "*.b.example.com"], ["example.org", "badexample.com", "com", "*.com"]),
        ("dns_name", ".example.com", ["a.example.com", "*.example.com"], ["example.com"]),
        ("dns_name", "", ["anything.example"], []),
        ("ip_address", "10.0.0.0/8", ["10.255.0.1"], ["11.0.0.1", "::1", "not an address"]),
        ("ip_address", "2001:db8::/32", ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
        ("email", "example.com", ["a@example.com", "a@EXAMPLE.com"], ["a@sub.example.com", "example.com@x.org"]),
        ("email", ".example.com", ["a@sub.example.com"], ["a@example.com"]),
        ("email", "a@example.com", ["a@Example.com"], ["A@example.com", "b@example.com", "@example.com"]),
        ("uri", "example.com", ["https://example.com:8443/x"], ["https://a.example.com/", "urn:x:y", "https://10.0.0.1/", "http://[::1"]),
        ("uri", ".example.com", ["https://a.example.com/"], ["https://example.com/"]),
        ("upn", "", [], ["user@example.com"]),
    ],
)  # fmt: skip
def test_a_form_with_permitted_subtrees_has_nothing_else(kind, subtree, within, without):
    bounds = [permitted(kind, subtree)]
    assert [each for each in within if outside(bounds, kind, each)] == []
    assert [each for each in without if not outside(bounds, kind, each)] == []


@pytest.mark.parametrize(
    ("kind", "subtree", "kept_out", "free"),
    [
        ("dns_name", "secret.example.com", ["secret.example.com", "a.secret.example.com", "*.example.com", "*.secret.example.com"], ["example.com", "*.a.example.com"]),
        ("dns_name", ".example.com", ["example.com", "a.example.com"], ["example.org"]),
        ("ip_address", "10.0.0.0/8", ["10.1.2.3"], ["192.0.2.1"]),
        ("email", "example.com", ["a@example.com"], ["a@example.org"]),
        ("uri", "example.com", ["https://example.com/", "urn:no:host"], ["https://example.org/"]),
        ("upn", "", ["user@example.com"], []),
        ("dns_name", "", ["example.com", "*.example.com"], []),
        ("email", "", ["a@example.com"], []),
        ("uri", "", ["https://example.com/"], []),
    ],
)  # fmt: skip
def test_what_is_excluded_is_kept_out_and_so_is_what_may_stand_for_it(kind, subtree, kept_out, free):
    """A wildcard that matches an excluded host is that host, whatever OpenSSL makes of it."""
    bounds = [excluded(kind, subtree)]
    assert [each for each in kept_out if not outside(bounds, kind, each)] == []
    assert [each for each in free if outside(bounds, kind, each)] == []


def test_a_form_of_names_that_is_not_spoken_of_is_free():
    assert not outside([permitted("dns_name", "example.com")], "ip_address", "192.0.2.1")
    assert not outside([], "dns_name", "example.org")


def test_every_certificate_of_a_chain_has_its_say():
    both = [permitted("dns_name", "a.example.com"), permitted("dns_name", "example.com")]
    assert outside(both, "dns_name", "b.example.com")
    assert not outside(both, "dns_name", "x.a.example.com")


def test_a_subject_is_a_directory_name_with_addresses_and_hosts_in_it():
    directory = [permitted("directory", "O=Example  Inc,C=DE")]
    assert subject_outside(directory, [("2.5.4.6", "de"), ("2.5.4.10", "example inc"), (COMMON_NAME, "x")]) is None
    assert subject_outside(directory, [("2.5.4.10", "Example Inc"), ("2.5.4.6", "DE")]) == "Example Inc, DE"
    assert subject_outside(directory, []) is None, "an empty subject has no directory name"
    assert subject_outside([excluded("directory", "C=DE")], [("2.5.4.6", "DE"), (COMMON_NAME, "x")]) == "DE, x"
    assert subject_outside([excluded("directory", "C=DE")], [("2.5.4.6", "FR")]) is None
    hosts = [permitted("dns_name", "example.com")]
    assert subject_outside(hosts, [(COMMON_NAME, "host.example.org")]) == "host.example.org"
    assert subject_outside(hosts, [(COMMON_NAME, "Just a name")]) is None
    assert subject_outside([permitted("ip_address", "10.0.0.0/8")], [(COMMON_NAME, "192.0.2.1")]) == "192.0.2.1"
    assert subject_outside([permitted("email", "example.com")], [(EMAIL, "a@example.org")]) == "a@example.org"


@pytest.mark.parametrize(
    ("kind", "outer", "within", "without"),
    [
        ("dns_name", "example.com", ["example.com", "a.example.com", ".example.com"], ["com", "example.org", ""]),
        ("dns_name", ".example.com", [".example.com", "a.example.com"], ["example.com"]),
        ("ip_address", "10.0.0.0/8", ["10.0.0.0/8", "10.1.0.0/16"], ["0.0.0.0/0", "11.0.0.0/8", "::/0"]),
        ("email", "example.com", ["example.com", "a@example.com"], [".example.com", "a@example.org"]),
        ("email", ".example.com", [".example.com", "a.example.com", ".a.example.com"], ["example.com"]),
        ("email", "a@example.com", ["a@example.com"], ["example.com", "b@example.com"]),
        ("uri", ".example.com", ["a.example.com", ".a.example.com"], ["example.com"]),
        ("directory", "O=Example", ["O=Example", "CN=x,O=Example"], ["O=Other", "O=Example,C=DE"]),
        ("upn", "", [], [""]),
    ],
)  # fmt: skip
def test_a_subtree_within_a_subtree(kind, outer, within, without):
    for each in within:
        assert inside(NameRange(kind, each), NameRange(kind, outer)), each
    for each in without:
        assert not inside(NameRange(kind, each), NameRange(kind, outer)), each
    assert not inside(NameRange("dns_name", "x"), NameRange("email", "x"))


def test_a_child_lies_within_its_parents():
    parents = [permitted("dns_name", "example.com"), excluded("dns_name", "secret.example.com")]
    assert beyond(permitted("dns_name", "a.example.com"), parents) is None
    assert beyond(permitted("ip_address", "10.0.0.0/8"), parents) is None, "a form that no parent speaks of"
    assert beyond(permitted("dns_name", "example.org"), parents) == "dns_name:example.org"
    assert beyond(permitted("dns_name", "a.secret.example.com"), parents) == "dns_name:a.secret.example.com"
    assert beyond(Bounds(), parents) is None


labels = st.sampled_from(["a", "b", "ab"])
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
subtrees = st.one_of(hosts, hosts.map(lambda each: f".{each}"))
networks = st.tuples(st.integers(0, 255), st.integers(0, 255), st.sampled_from([8, 9, 12, 16, 20, 32])).map(
    lambda each: str(ip_network(f"{each[0]}.{each[1]}.0.0/{each[2]}", strict=False))
)
addresses = st.integers(0, 2**32 - 1).map(lambda each: str(ip_address(each)))
mail = st.one_of(subtrees, hosts.map(lambda each: f"x@{each}"))


@given(
    st.one_of(
        st.tuples(st.just("dns_name"), subtrees, subtrees, st.one_of(hosts, hosts.map(lambda each: f"*.{each}"))),
        st.tuples(st.just("ip_address"), networks, networks, addresses),
        st.tuples(st.just("email"), mail, mail, hosts.map(lambda each: f"x@{each}")),
        st.tuples(st.just("uri"), subtrees, subtrees, hosts.map(lambda each: f"https://{each}/")),
    )
)
def test_what_is_in_a_child_s_subtree_is_in_its_parent_s(case):
    """The arithmetic of ceremonies agrees with that of issuance: nothing that a child may sign is beyond the parent."""
    kind, inner, outer, name = case
    if inside(NameRange(kind, inner), NameRange(kind, outer)) and not outside([permitted(kind, inner)], kind, name):
        assert not outside([permitted(kind, outer)], kind, name)
    assert inside(NameRange(kind, inner), NameRange(kind, inner))
    if not outside([permitted(kind, inner)], kind, name):
        assert outside([excluded(kind, inner)], kind, name), "what is held is touched"


@given(hosts, hosts)
def test_a_host_is_in_a_subtree_where_labels_say_so(subtree, host):
    """Against a second way to say it: the last labels are the subtree's."""
    labels = subtree.split(".")
    assert outside([permitted("dns_name", subtree)], "dns_name", host) is (host.split(".")[-len(labels) :] != labels)


def test_constraints_are_read_as_they_were_written():
    ranges = (
        NameRange("dns_name", "example.com"),
        NameRange("ip_address", "10.0.0.0/8"),
        NameRange("email", "example.com"),
        NameRange("uri", ".example.com"),
        NameRange("directory", "CN=x,O=Example"),
    )
    written = x509.NameConstraints([general_name(each) for each in ranges], [general_name(ranges[0])])
    store = MemoryStore()
    root = ceremony(store).authority(Plan("r", [(COMMON_NAME, "R")], "EC_prime256v1", None, 0, 100))
    assert bounds_of(root.certificate) == Bounds()
    with_them = _certificate(root.private_key, written)
    assert bounds_of(with_them) == Bounds(ranges, ranges[:1])
    odd = x509.NameConstraints(None, [x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")])
    assert bounds_of(_certificate(root.private_key, odd)) == Bounds(excluded=(NameRange("upn", ""),))
    with pytest.raises(ValueError, match="cannot be constrained"):
        general_name(NameRange("upn", ""))


def _certificate(key, constraints: x509.NameConstraints) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(COMMON_NAME), "x")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 77, *(dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2026, 2030))
    )
    return builder.add_extension(constraints, critical=True).sign(key, hashes.SHA256())


def constrained():
    """An authority that is free itself, below one that is not: the constraints reach it all the same."""
    at = ceremony(MemoryStore())
    bounds = Bounds((NameRange("dns_name", "example.com"),), (NameRange("dns_name", "secret.example.com"),))
    root = at.authority(Plan("root", [(COMMON_NAME, "Root")], "EC_prime256v1", None, 1, 7300, bounds=bounds))
    return issuer_of(at.authority(Plan("issuing", [(COMMON_NAME, "Issuing")], "EC_prime256v1", root, 0, 3650)))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sans": [GeneralName("dns_name", "server.example.org")]}, "the name 'server.example.org'"),
        ({"sans": [GeneralName("dns_name", "a.secret.example.com")]}, "the name 'a.secret.example.com'"),
        ({"sans": [GeneralName("dns_name", "*.example.com")]}, "the name"),
        ({"subject": [(COMMON_NAME, "server.example.org")], "sans": []}, "the subject 'server.example.org'"),
    ],
)
def test_the_signer_refuses_what_a_parent_s_constraints_keep_out(changes, what):
    within = {"subject": [(COMMON_NAME, "a.example.com")], "sans": [GeneralName("dns_name", "a.example.com")]}
    check(constrained(), good_ask(**within), spki(), "EC_prime256v1")
    with pytest.raises(Refused, match=f"this issuer never signs {what}") as caught:
        check(constrained(), good_ask(**{**within, **changes}), spki(), "EC_prime256v1")
    assert caught.value.reason is SignerRefusal.CEILING
