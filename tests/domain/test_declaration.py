"""D28: what a declaration may say, and how it is told that it cannot."""

import ast
import inspect
import itertools
import re
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.application import AcmeSettings, ApiSettings, EnrollmentSettings, EstSettings, ScepSettings
from gateway.domain.declaration import nouns, shape
from gateway.domain.declaration.nouns import EST_OPERATIONS, Problems, policy_of, profile_of, settings_of
from gateway.domain.declaration.reading import DeclarationError, read, with_secrets
from gateway.domain.declaration.shape import Declaration, PolicyDeclaration
from gateway.domain.policy import BasicConstraints, ExtendedKeyUsageRule, KeyUsageRule, Policy, SanRule, SubjectRule
from gateway.domain.presets import PRESETS
from gateway.domain.profile import Defaults, Profile
from gateway.domain.request import KeyAlgorithm, KeyUsage, SanType
from tests.domain.made import CN, DAY, O, attribute

WHOLE = """
[[authorities]]
name = "root"
subject = "CN=Example Root"
days = 7300

[[authorities]]
name = "issuing"
parent = "root"
keyAlgorithm = "RSA_3072"
pathLength = 0
crlUrls = ["http://pki.example.com/issuing.crl"]
scep = true

[[policies]]
name = "servers"
preset = "tls-server"
sans = [{ type = "dns_name", allowed = ["**.example.com"], denied = ["admin.example.com"] }]
validity = { max = "90d" }

[[policies]]
name = "strict"
subject = [{ type = "common_name", required = ["*"] }]
sans = []
keyUsages = {}
extendedKeyUsages = { allowed = ["clientAuth", "1.2.3.4"], required = ["serverAuth"] }
algorithms = { signature = ["ecdsa-with-SHA256"], keyAlgorithm = ["EC_prime256v1"] }
basicConstraints = { ca = true, pathLength = 1 }

[[profiles]]
slug = "tls-server"
authority = "issuing"
policy = "servers"
description = "servers"
clipValidity = false
backdateSeconds = 60

[profiles.defaults]
ttl = "30d"
subject = ["organization=Example = Ltd"]
keyAlgorithm = "EC_prime256v1"
keyUsages = ["digitalSignature"]
extendedKeyUsages = ["serverAuth"]

[[applications]]
name = "payments-api"
description = "payments"
profiles = ["tls-server"]

[applications.enrollment.tls-server.api]

[applications.enrollment.tls-server.acme]
skipEabBinding = true
http01Port = 5002
allowedNetworks = ["10.0.0.0/8"]
resolvers = ["10.0.0.53"]
authorizationReuse = "1d"
termsOfService = "https://example.com/tos"
website = "https://example.com/"

[applications.enrollment.tls-server.est]
passphrase = "correct horse"
label = "payments"
wrap = 64

[applications.enrollment.tls-server.scep]
challengeEnv = "SCEP_CHALLENGE"
allowRenewal = false
include = "chain"
"""


def found(text: str) -> list[str]:
    """All problems of a declaration."""
    try:
        return nouns.problems(read(text))
    except DeclarationError as error:
        return list(error.problems)


def clean() -> Problems:
    return Problems([], "")


def test_a_whole_declaration_becomes_nouns():
    declared = read(WHOLE)
    assert nouns.problems(declared) == []
    servers, strict = (policy_of(each, "id", clean()) for each in declared.policies)
    preset = PRESETS["tls-server"]
    assert servers == Policy(
        "id", "servers", None, (SanRule(SanType.DNS_NAME, ("**.example.com",), (), ("admin.example.com",)),),
        preset.key_usages, preset.extended_key_usages, None, preset.key_algorithms, 90 * DAY,
    )  # fmt: skip
    assert strict == Policy(
        "id", "strict", (SubjectRule(CN, required=("*",)),), (), KeyUsageRule(allowed=()),
        ExtendedKeyUsageRule(allowed=("1.3.6.1.5.5.7.3.2", "1.2.3.4"), required=("1.3.6.1.5.5.7.3.1",)),
        ("ecdsa-with-SHA256",), (KeyAlgorithm.EC_P256,), None, BasicConstraints(True, 1),
    )  # fmt: skip
    assert profile_of(declared.profiles[0], "id", "authority", servers, clean()) == Profile(
        "id", "tls-server", "authority", servers,
        Defaults(30 * DAY, (attribute(O, "Example = Ltd"),), KeyAlgorithm.EC_P256, (KeyUsage.DIGITAL_SIGNATURE,), ("1.3.6.1.5.5.7.3.1",)),
        "servers", clip_validity=False, backdate=timedelta(seconds=60),
    )  # fmt: skip
    assert settings_of(declared.applications[0].enrollment["tls-server"], "p", "c", clean()) == EnrollmentSettings(
        ApiSettings(),
        AcmeSettings(skip_eab_binding=True, http01_port=5002, allowed_networks=("10.0.0.0/8",), resolvers=("10.0.0.53",),
                     authorization_reuse=DAY, terms_of_service="https://example.com/tos", website="https://example.com/"),
        EstSettings("p", "payments", 64),
        ScepSettings("c", allow_renewal=False, include="chain"),
    )  # fmt: skip


def test_settings_in_the_same_file_are_passed_by():
    text = "https = '127.0.0.1:8443'\n[store]\nurl = 'x'\n" + WHOLE
    assert read(text, settings={"https", "store"}) == read(WHOLE)
    with pytest.raises(DeclarationError, match="https: unknown key"):
        read(text, settings={"store"})


def test_doors_that_are_left_out_are_closed():
    declared = read('[[applications]]\nname = "a"\nprofiles = ["p"]\n[applications.enrollment.p]')
    assert settings_of(declared.applications[0].enrollment["p"], None, None, clean()) == EnrollmentSettings()


def test_a_usage_section_with_only_denials_allows_the_rest():
    """D1: absent, empty, rules."""
    declared = PolicyDeclaration(
        "p", key_usages=read_usages("denied = ['cRLSign']"), extended_key_usages=read_usages("")
    )
    policy = policy_of(declared, "", clean())
    assert policy.key_usages == KeyUsageRule(allowed=None, denied=(KeyUsage.CRL_SIGN,))
    assert policy.extended_key_usages == ExtendedKeyUsageRule(allowed=())


def read_usages(text: str):
    return read(f"[[policies]]\nname = 'x'\n[policies.keyUsages]\n{text}").policies[0].key_usages


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("profiles = [", "this is not TOML"),
        ("polices = []", 'polices: unknown key; did you mean "policies"?'),
        ("xyzzy = 1", "xyzzy: unknown key; known: authorities, policies, profiles, applications"),
        ("[[profiles]]\n[[profiles]]\npolcy = 'x'", 'profiles[1].polcy: unknown key; did you mean "policy"?'),
        ("[[applications]]\nenrollment.p.acme.http01port = 80", 'applications[0].enrollment.p.acme.http01port: unknown key; did you mean "http01Port"?'),
        ("[[applications]]\nenrollment.p.soap = {}", "applications[0].enrollment.p.soap: unknown key; known: api, acme, est, scep"),
        ("[[policies]]\nsans = [{ typ = 'x' }]", 'policies[0].sans[0].typ: unknown key; did you mean "type"?'),
        ("[[policies]]\nname = 'p'\nkeyUsages = { alowed = [] }", 'policies[0].keyUsages.alowed: unknown key; did you mean "allowed"?'),
        ("[[profiles]]\nslug = 1", "profiles[0].slug: expected `str`, got `int`"),
        ("profiles = 1", "profiles: expected `array`, got `int`"),
        ("[[profiles]]\nslug = 'x'", "profiles[0]: object missing required field `authority`"),
        ("[[authorities]]\nname = 'A'", 'authorities[0].name: "A" is not a name here: use lower-case letters, digits and hyphens'),
        ("[[authorities]]\nname = 'a'\n[[authorities]]\nname = 'a'", 'authorities[1].name: "a" stands here twice'),
        ("[[authorities]]\nname = 'a'\nkeyAlgorithm = 'EC_p256'", 'authorities[0].keyAlgorithm: "EC_p256" is not known; did you mean'),
        ("[[authorities]]\nname = 'a-delta'", "authorities[0].name: an address that ends so is that of delta lists"),
        ("[[authorities]]\nname = 'a'\ndays = 0", "authorities[0].days: must be from 1 to 36500"),
        ("[[authorities]]\nname = 'a'\npathLength = 11", "authorities[0].pathLength: must be from 0 to 10"),
        ("[[authorities]]\nname = 'a'\nocspUrls = ['ldap://x/']", 'authorities[0].ocspUrls[0]: "ldap://x/" is not an http or https address'),
        ("[[policies]]\nname = 'p'\npreset = 'tls-servr'", 'policies[0].preset: "tls-servr" is not known; did you mean "tls-server"?'),
        ("[[policies]]\nname = 'p'\nsans = [{ type = 'dns' }]", 'policies[0].sans[0].type: "dns" is not known'),
        ("[[policies]]\nname = 'p'\nsubject = [{ type = 'cn' }]", 'policies[0].subject[0].type: "cn" is not known'),
        ("[[policies]]\nname = 'p'\nsans = [{ type = 'dns_name', allowed = ['a..b'] }]", 'policies[0]: "a..b" can match no DNS name'),
        ("[[policies]]\nname = 'p'\nkeyUsages = { required = ['digitalSig'] }", 'policies[0].keyUsages.required[0]: "digitalSig" is not known; did you mean "digitalSignature"?'),
        ("[[policies]]\nname = 'p'\nextendedKeyUsages = { denied = ['1.2.03'] }", 'policies[0].extendedKeyUsages.denied[0]: "1.2.03" is not known'),
        ("[[policies]]\nname = 'p'\nalgorithms = { signature = ['sha256'] }", 'policies[0].algorithms.signature[0]: "sha256" is not known'),
        ("[[policies]]\nname = 'p'\nalgorithms = { keyAlgorithm = ['RSA'] }", 'policies[0].algorithms.keyAlgorithm[0]: "RSA" is not known'),
        ("[[policies]]\nname = 'p'\nvalidity = { max = '90' }", "policies[0].validity.max: a duration is a number and one of"),
        ("[[policies]]\nname = 'p'\nbasicConstraints = { pathLength = 1 }", "policies[0].basicConstraints.pathLength: is a number from 0"),
        ("[[policies]]\nname = 'p'\nbasicConstraints = { ca = true, pathLength = -1 }", "policies[0].basicConstraints.pathLength: is a number from 0"),
        ("[[profiles]]\nslug = 'a_b'\nauthority = 'a'\npolicy = 'p'", 'profiles[0].slug: "a_b" is not a name here'),
        ("[[profiles]]\nslug = 's'\nauthority = 'a'\npolicy = 'p'\nbackdateSeconds = -1", "profiles[0].backdateSeconds: must be from 0 to 86400"),
        ("[[profiles]]\nslug = 's'\nauthority = 'a'\npolicy = 'p'\ndefaults.ttl = 'x'", "profiles[0].defaults.ttl: a duration is"),
        ("[[profiles]]\nslug = 's'\nauthority = 'a'\npolicy = 'p'\ndefaults.subject = ['organization']", "profiles[0].defaults.subject[0]: write type=value"),
        ("[[profiles]]\nslug = 's'\nauthority = 'a'\npolicy = 'p'\ndefaults.subject = ['org=x']", 'profiles[0].defaults.subject[0]: "org" is not known'),
        ("[[profiles]]\nslug = 's'\nauthority = 'a'\npolicy = 'p'\ndefaults.keyAlgorithm = 'x'", 'profiles[0].defaults.keyAlgorithm: "x" is not known'),
        ("[[applications]]\nname = 'a'\ndescription = '" + "x" * 257 + "'", "applications[0].description: has more than 256 characters"),
        ("[[applications]]\nname = 'a'\nenrollment.p.api = {}", "applications[0].enrollment.p: is not among this application's profiles"),
        ("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.acme = { http01Port = 0 }", "applications[0].enrollment.p.acme.http01Port: must be from 1 to 65535"),
        ("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.acme = { allowedNetworks = ['10.0.0.1/8'] }", 'applications[0].enrollment.p.acme.allowedNetworks[0]: "10.0.0.1/8" is not a network'),
        ("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.acme = { resolvers = ['dns.example'] }", 'applications[0].enrollment.p.acme.resolvers[0]: "dns.example" is not an address'),
        ("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.acme = { website = 'x' }", 'applications[0].enrollment.p.acme.website: "x" is not an http'),
        ("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.est = { wrap = 65 }", "applications[0].enrollment[...].est.wrap: invalid enum value 65"),
        ("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.est = { label = 'a/b' }", 'applications[0].enrollment.p.est.label: "a/b" cannot be a label'),
    ],
)  # fmt: skip
def test_a_problem_names_its_key_and_what_may_have_been_meant(text, problem):
    problems = found(text)
    assert [each for each in problems if each.startswith(problem)], problems


def test_no_validation_and_no_binding_together_are_refused():
    """A128: both at once would give any name to anyone."""
    text = "[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.acme = { skipEabBinding = true, skipDnsOwnershipVerification = true }"
    assert found(text) == [
        "applications[0].enrollment.p.acme: skipDnsOwnershipVerification and skipEabBinding cannot both be true"
    ]


@pytest.mark.parametrize("label", sorted(EST_OPERATIONS))
def test_a_label_that_is_an_operation_is_refused(label):
    """E4."""
    text = f"[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.est = {{ label = '{label}' }}"
    assert len(found(text)) == 1


def test_all_problems_come_together():
    assert len(found("[[policies]]\nname = 'P'\npreset = 'x'\nvalidity = { max = '1' }")) == 3


def secrets(
    est: str = "", scep: str = "", files: dict[str, str] | None = None, environment: dict[str, str] | None = None
):
    """The doors after their secrets were fetched."""
    declared = read(
        f"[[applications]]\nname = 'a'\nprofiles = ['p']\n[applications.enrollment.p]\nest = {{ {est} }}\nscep = {{ {scep} }}"
    )

    def read_file(name: str) -> str:
        text = (files or {}).get(name)
        if text is None:
            raise FileNotFoundError(name)
        return text

    doors = with_secrets(declared, read_file, environment or {}).applications[0].enrollment["p"]
    return doors.est.passphrase, doors.scep.challenge


def test_secrets_come_from_the_text_a_file_or_the_environment():
    assert secrets("passphrase = 'in the clear'") == ("in the clear", None)
    assert secrets("passphraseFile = 'f'", "challengeEnv = 'E'", {"f": " from a file\r\n"}, {"E": "from outside"}) == (
        " from a file",
        "from outside",
    )


def test_doors_without_secrets_stay_as_they_are():
    declared = read("[[applications]]\nname = 'a'\nprofiles = ['p']\nenrollment.p.api = {}")
    assert with_secrets(declared, str, {}) == declared


@pytest.mark.parametrize(
    ("est", "scep", "problem"),
    [
        ("passphrase = '1234567'", "", "the passphrase has fewer than 8 characters"),
        ("passphraseFile = 'gone'", "", "est.passphraseFile: gone cannot be read"),
        ("", "challengeEnv = 'GONE'", "scep.challengeEnv: there is no environment variable GONE"),
        (
            "",
            "challenge = '12345678', challengeFile = 'f'",
            "scep: give only one of challenge, challengeFile and challengeEnv",
        ),
    ],
)
def test_a_secret_that_is_missing_short_or_doubled_is_refused_without_being_shown(est, scep, problem):
    with pytest.raises(DeclarationError, match=problem) as caught:
        secrets(est, scep)
    assert "1234567" not in str(caught.value)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "sans", "x"]), inner, max_size=2), max_leaves=8))  # fmt: skip
def test_no_document_makes_reading_stumble(value):
    """Whatever stands where, the outcome is a declaration or sentences."""
    if not isinstance(value, str | int):
        return
    for key in ("authorities", "policies", "profiles", "applications"):
        text = f"{key} = {msgspec.toml.encode({'v': value}).decode().partition('= ')[2]}"
        assert found(text)


@given(st.text(max_size=60))
def test_no_text_makes_reading_stumble(text):
    try:
        assert isinstance(read(text), Declaration)
    except DeclarationError as error:
        assert error.problems  # noqa: PT017 - one of two outcomes


def documented() -> dict[str, set[str]]:
    """The keys of each section in docs/declaration.md, by the section's heading."""
    sections: dict[str, set[str]] = {}
    for line in (Path(__file__).parents[2] / "docs" / "declaration.md").read_text().splitlines():
        if line.startswith("## "):
            keys = sections.setdefault(line.removeprefix("## ").strip("`"), set())
        elif line.startswith("| `"):
            keys.update(re.findall(r"`(\w+)`", line.split("|")[1]))
    return sections


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("[[authorities]]", shape.AuthorityDeclaration),
        ("[[policies]]", shape.PolicyDeclaration),
        ("[[profiles]]", shape.ProfileDeclaration),
        ("[profiles.defaults]", shape.DefaultsDeclaration),
        ("[[applications]]", shape.ApplicationDeclaration),
        ("[applications.enrollment.<profile>.acme]", shape.AcmeDeclaration),
        ("[applications.enrollment.<profile>.est]", shape.EstDeclaration),
        ("[applications.enrollment.<profile>.scep]", shape.ScepDeclaration),
    ],
)
def test_the_manual_has_exactly_the_keys_that_there_are(heading, section):
    assert documented()[heading] == {field.encode_name for field in msgspec.structs.fields(section)}


def test_the_manuals_example_is_a_declaration():
    manual = (Path(__file__).parents[2] / "docs" / "declaration.md").read_text()
    example = manual.split("```toml\n", 1)[1].split("```", 1)[0]
    assert found(example) == []


def test_every_key_is_documented():
    """The sentence below a key is its documentation."""
    for section in ast.parse(inspect.getsource(shape)).body:
        if isinstance(section, ast.ClassDef) and section.name != "Declaration":
            for key, below in itertools.pairwise([*section.body, ast.Pass()]):
                if isinstance(key, ast.AnnAssign):
                    assert isinstance(below, ast.Expr), ast.unparse(key)
