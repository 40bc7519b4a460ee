"""Authorities with name constraints, policies and URLs: what stands in their certificates, and what is refused."""

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from signer.ceremony.certify import issued
from signer.ceremony.plan import DAY, Plan, check_policies, parse_bounds, policies_of
from signer.contract.messages import GeneralName
from signer.issuance.names import Bounds, bounds_of
from signer.issuance.refused import Refused
from signer.keystore.key import NameRange
from tests.doubles.verification import lint
from tests.signer.authorities import Keys, load, verified
from tests.signer.kit import COMMON_NAME, good_ask

NOW = int(time.time())
WORDS = (
    "--permitted",
    "dns_name:Example.com",
    "--permitted",
    "ip_address:10.0.0.0/8",
    "--permitted",
    "email:example.com",
)
EXCLUDED = (
    "--excluded",
    "dns_name:secret.example.com",
    "--permitted",
    "directory:O=Example",
    "--permitted",
    "uri:.example.com",
)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def by_hand(keys: Keys, host: str) -> str:
    """A leaf that somebody who had the key would sign, past every check of ours."""
    authority = keys.store().find("issuing")
    names = (
        x509.Name([x509.NameAttribute(x509.ObjectIdentifier("2.5.4.10"), "Example")]),
        authority.certificate.subject,
    )
    begins = authority.certificate.not_valid_before_utc
    builder = x509.CertificateBuilder(names[1], names[0], ec.generate_private_key(ec.SECP256R1()).public_key(), 4711)
    builder = builder.not_valid_before(begins).not_valid_after(authority.certificate.not_valid_after_utc)
    ski = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(authority.private_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_names_outside_are_refused_by_openssl_and_never_signed(keys, tmp_path):
    """The root alone is constrained: OpenSSL refuses a violating leaf made by hand, the signer refuses to make one."""
    subject = ("--subject", "CN=CA,O=Example")
    keys.do("create-authority", "--name", "root", "--path-length", "1", *subject, *WORDS, *EXCLUDED)
    made = keys.do("create-authority", "--name", "issuing", "--parent", "root", "--subject", "CN=I,O=Example")
    root, issuing = made["root"]["certificate"], made["issuing"]["certificate"]
    extension = load(root).extensions.get_extension_for_class(x509.NameConstraints)
    assert extension.critical
    assert bounds_of(load(root)) == Bounds(
        (
            NameRange("dns_name", "example.com"),
            NameRange("ip_address", "10.0.0.0/8"),
            NameRange("email", "example.com"),
            NameRange("directory", "O=Example"),
            NameRange("uri", ".example.com"),
        ),
        (NameRange("dns_name", "secret.example.com"),),
    )
    assert bounds_of(load(issuing)) == Bounds()
    assert lint(root) == lint(issuing) == []
    shown = keys.do("show", "--name", "root")
    assert {"type": "dns_name", "value": "example.com"} in shown["permitted"]
    assert shown["excluded"] == [{"type": "dns_name", "value": "secret.example.com"}]
    authority = keys.store().find("issuing")

    def ask(host: str):
        subject, sans = [("2.5.4.10", "Example")], [GeneralName("dns_name", host)]
        return good_ask(subject=subject, sans=sans, not_before=NOW, not_after=NOW + DAY)

    for host in ("server.example.org", "a.secret.example.com"):
        outcome = verified(tmp_path / "v", by_hand(keys, host), [root], [issuing])
        assert "subtree violation" in outcome, outcome
        with pytest.raises(Refused, match="outside the name constraints"):
            issued(authority, ask(host), [], lambda *_: None)
    good = issued(authority, ask("server.example.com"), [], lambda *_: None).public_bytes(Encoding.PEM).decode()
    assert verified(tmp_path / "v", by_hand(keys, "server.example.com"), [root], [issuing]) == ""
    assert verified(tmp_path / "v", good, [root], [issuing]) == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--permitted", "dns_name:example.org"],
            "permitted dns_name:example.org is not within the name constraints of root",
        ),
        (["--permitted", "dns_name:a.secret.example.com"], "permitted dns_name:a.secret.example.com is not within"),
        (["--permitted", "ip_address:0.0.0.0/0"], "permitted ip_address:0.0.0.0/0 is not within"),
        (["--policy", "1.3.6.1.4.1.99999.2"], "policy 1.3.6.1.4.1.99999.2 is none of those of root"),
        (["--path-length", "1"], "an authority with so long a path below it"),
        (["--subject", "CN=I,O=Other"], "this issuer never signs the subject"),
    ],
)
def test_a_child_lies_within_its_parent_or_is_refused_by_the_field(keys, more, sentence):
    at = keys.ceremony(NOW)
    bounds = parse_bounds(
        ["dns_name:example.com", "ip_address:10.0.0.0/8", "directory:O=Example"], ["dns_name:secret.example.com"]
    )
    subject = [("2.5.4.10", "Example"), (COMMON_NAME, "Root")]
    policies = ("1.3.6.1.4.1.99999.1",)
    at.authority(Plan("root", subject, "EC_prime256v1", None, 1, 7300, bounds=bounds, policies=policies))
    given = ["--name", "child", "--parent", "root", *([] if "--subject" in more else ["--subject", "CN=I,O=Example"])]
    assert sentence in keys.refused("create-authority", *given, *more)
    assert keys.store().names() == ("root",)


def test_policies_stand_in_the_certificate_and_are_inherited(keys):
    at = keys.ceremony(NOW)
    policies, cps = ("1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"), "https://example.com/cps"
    plan = Plan("root", [(COMMON_NAME, "R")], "EC_prime256v1", None, 2, 7300, policies=policies, cps=cps)
    root = at.authority(plan)
    assert policies_of(root.certificate) == policies
    [first, _] = root.certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert first.policy_qualifiers == [cps]
    heir = at.authority(Plan("heir", [(COMMON_NAME, "H")], "EC_prime256v1", root, 0, 365))
    assert policies_of(heir.certificate) == policies
    one = at.authority(Plan("one", [(COMMON_NAME, "O")], "EC_prime256v1", root, 1, 365, policies=policies[:1]))
    assert (
        policies_of(at.authority(Plan("x", [(COMMON_NAME, "X")], "EC_prime256v1", one, 0, 99)).certificate)
        == policies[:1]
    )
    any_policy = Plan("any", [(COMMON_NAME, "A")], "EC_prime256v1", None, 1, 7300, policies=("2.5.29.32.0",))
    free = at.authority(any_policy)
    below = Plan("below", [(COMMON_NAME, "B")], "EC_prime256v1", free, 0, 365, policies=policies)
    assert policies_of(at.authority(below).certificate) == policies
    for each in (root, heir, free):
        assert lint(each.certificate.public_bytes(Encoding.PEM).decode()) == []


def test_a_child_s_certificate_has_its_parent_s_urls(keys):
    keys.do("create-authority", "--name", "root", "--subject", "CN=R", "--path-length", "1")
    urls = [f"http://pki.example.com/{each}" for each in ("root.crl", "root.crt", "ocsp/root")]
    words = [word for pair in zip(("--crl-url", "--issuer-url", "--ocsp-url"), urls, strict=True) for word in pair]
    made = keys.do("create-authority", "--name", "i", "--subject", "CN=I", "--parent", "root", *words)
    found = load(made["issuing"]["certificate"]).extensions
    points = found.get_extension_for_class(x509.CRLDistributionPoints).value
    access = found.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert points[0].full_name[0].value == urls[0]
    assert {each.access_location.value for each in access} == set(urls[1:])
    assert lint(made["issuing"]["certificate"]) == []
    sentence = "a root has no parent whose URLs could stand in its certificate"
    assert keys.refused("create-authority", "--name", "r2", "--subject", "CN=R", *words) == sentence
    bad = ("create-authority", "--name", "j", "--subject", "CN=J", "--parent", "root", "--crl-url", "ldap://x/")
    assert "is not the URL of a publication" in keys.refused(*bad)


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("example.com", "is not TYPE:VALUE"),
        ("upn:x", "is not TYPE:VALUE"),
        ("dns_name:*.example.com", "a DNS name stands for itself"),
        ("dns_name:.example.com", "a DNS name stands for itself"),
        ("dns_name:", "a DNS name stands for itself"),
        ("ip_address:10.0.0.1/8", "host bits set"),
        ("ip_address:10.0.0", "a network is written as"),
        ("email:a@b@c", "not a mailbox"),
        ("email:a b", "a mailbox, a host or .domain"),
        ("uri:https://x/", "a host or .domain"),
        ("directory:nonsense", "is not a name such as"),
        ("directory:CN=a+O=b", "one attribute"),
    ],
)
def test_a_constraint_that_cannot_be_is_told_with_its_field(word, fault):
    with pytest.raises(ValueError, match=rf"^permitted '.*{fault}"):
        parse_bounds([word], [])
    with pytest.raises(ValueError, match=r"^excluded "):
        parse_bounds([], [word])


def test_constraints_of_every_form_are_read():
    words = ["dns_name:A.example", "ip_address:2001:db8::/32", "email:a@B.example", "email:.b.example", "uri:c.example"]
    read = parse_bounds(words, ["directory:CN=x,O=Y"])
    assert [each.value for each in read.permitted] == [
        "a.example",
        "2001:db8::/32",
        "a@B.example",
        ".b.example",
        "c.example",
    ]
    assert read.excluded == (NameRange("directory", "CN=x,O=Y"),)


@pytest.mark.parametrize(
    ("policies", "cps", "fault"),
    [
        (["x"], "", "is not an object identifier"),
        (["1.2.3", "1.2.3"], "", "named twice"),
        ([], "https://example.com/", "goes with a policy"),
        (["1.2.3"], "ftp://example.com/", "http"),
    ],
)
def test_a_policy_that_cannot_be_is_told(policies, cps, fault):
    with pytest.raises(ValueError, match=fault):
        check_policies(policies, cps)


def test_the_list_describes_keys_without_opening_a_token(keys):
    keys.do("create-authority", "--name", "root", "--subject", "CN=R,O=Example", "--path-length", "1")
    keys.do(
        "create-authority",
        "--name",
        "i",
        "--subject",
        "CN=I",
        "--parent",
        "root",
        "--with-ra",
        "--algorithm",
        "ML-DSA-44",
    )
    shown = {each["key"]: each for each in keys.do("list")}
    assert list(shown) == ["i", "i-ra", "root"]
    facts = {name: (each["kind"], each["algorithm"], each.get("parent")) for name, each in shown.items()}
    assert facts == {
        "i": ("issuer", "ML-DSA-44", "root"),
        "i-ra": ("ra", "RSA_2048", "i"),
        "root": ("issuer", "EC_prime256v1", None),
    }
    root = load(shown["root"]["certificate"])
    assert shown["root"]["certificate_sha256"] == root.fingerprint(hashes.SHA256()).hex()
    assert (shown["root"]["subject"], shown["root"]["path_length"]) == ("CN=R,O=Example", 1)
    assert shown["root"]["not_after"] == int(root.not_valid_after_utc.timestamp())
    assert len(shown["i"]["chain"]) == 2
    assert "place" not in shown["i"]
    assert keys.refused("show", "--name", "nobody") == "there is no key named nobody"
