"""Presets, and the demonstration's policies against what real clients ask for."""

import pytest

from gateway.domain.application import Pair
from gateway.domain.declaration import nouns
from gateway.domain.declaration.demo import demo
from gateway.domain.declaration.nouns import Problems
from gateway.domain.issuance import plan
from gateway.domain.policy import EXTENDED_KEY_USAGES, Rules, judge
from gateway.domain.presets import PRESETS
from gateway.domain.refusal import Refusal
from gateway.domain.request import KeyUsage, San, SanType
from tests.domain.made import (
    ALL_DOORS,
    CN,
    DAY,
    EC,
    NOW,
    RSA,
    SERIAL,
    O,
    attribute,
    authority,
    dns,
    judged,
    pair,
    request,
)

PURPOSES = {
    "tls-server": {"serverAuth"},
    "tls-client": {"clientAuth"},
    "dual": {"serverAuth", "clientAuth"},
    "device": {"clientAuth"},
    "user": {"clientAuth"},
    "email": {"emailProtection"},
    "code-signing": {"codeSigning"},
    "intermediate-ca": set(),
}
MAIL = (San(SanType.EMAIL, "joe@example.com"),)
DEMO = demo(passphrase="correct horse", challenge="battery staple", http_url="http://127.0.0.1:8080", http01_port=5002)


def test_the_presets_are_those_of_the_specification():
    assert set(PRESETS) == set(PURPOSES)
    assert all(Rules(policy) for policy in PRESETS.values())


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_silent_request_gets_what_a_preset_is_for(name):
    made = plan(
        request(subject=(attribute(CN, "joe"),), sans=MAIL if name == "email" else None),
        pair(PRESETS[name]), serial=SERIAL, now=NOW,
    )  # fmt: skip
    assert set(made.extended_key_usages) == {EXTENDED_KEY_USAGES[each] for each in PURPOSES[name]}
    assert made.basic_constraints.ca is (name == "intermediate-ca")
    assert (KeyUsage.KEY_CERT_SIGN in made.key_usages) is (name == "intermediate-ca")


@pytest.mark.parametrize("name", list(PRESETS))
def test_no_preset_accepts_another_purpose(name):
    found = judge(PRESETS[name], judged(extended_key_usages=("2.5.29.37.0",)))
    assert any("2.5.29.37.0 is not allowed" in each for each in found)


def test_presets_that_name_somebody_need_a_common_name():
    for name in ("user", "code-signing", "intermediate-ca"):
        assert any("common_name: is required" in each for each in judge(PRESETS[name], judged()))


def demonstration(slug: str) -> Pair:
    at = Problems([], "")
    policies = {each.name: nouns.policy_of(each, each.name, at) for each in DEMO.policies}
    profiles = {each.slug: nouns.profile_of(each, each.slug, "a", policies[each.policy], at) for each in DEMO.profiles}
    return Pair(pair().application, profiles[slug], authority(), ALL_DOORS)


def test_the_demonstration_is_sound_and_loses_nothing():
    assert nouns.problems(DEMO) == []
    doors = DEMO.applications[0].enrollment
    assert set(doors) == {"tls-server", "device"}
    for door in doors.values():
        found: list[str] = []
        settings = nouns.settings_of(door, "hash of p", "hash of c", Problems(found, ""))
        assert found == []
        assert len(settings.enabled()) == 4
        assert settings.acme.skip_eab_binding
        assert settings.acme.http01_port == 5002
        assert settings.acme.allowed_networks == ("127.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    "asked",
    [
        request(EC, sans=dns("localhost")),  # certbot: names only
        request(RSA, sans=dns("a.example", "*.b.example")),
        request(RSA, subject=(attribute(CN, "www.example.com"),)),  # older ACME clients: the first name in the CN too
        request(EC, subject=(attribute(CN, "dev1"),), sans=dns("dev1.example")),  # strongSwan, as in clients.md
        request(RSA, subject=(attribute(CN, "dev1"), attribute(O, "Example")), sans=None),  # SCEP without a SAN
        request(EC, sans=(San(SanType.IP_ADDRESS, "127.0.0.1"),)),
    ],
)
@pytest.mark.parametrize(("slug", "days"), [("tls-server", 90), ("device", 365)])
def test_the_demonstration_accepts_what_its_clients_send(slug, days, asked):
    made = plan(asked, demonstration(slug), serial=SERIAL, now=NOW)
    assert (made.not_after - made.not_before) // DAY == days - 1
    assert made.extended_key_usages == (EXTENDED_KEY_USAGES["serverAuth" if slug == "tls-server" else "clientAuth"],)


def test_the_demonstration_has_devices_with_uris_and_servers_without():
    asked = request(sans=(San(SanType.URI, "urn:device:1"),))
    assert plan(asked, demonstration("device"), serial=SERIAL, now=NOW)
    with pytest.raises(Refusal, match="uri"):
        plan(asked, demonstration("tls-server"), serial=SERIAL, now=NOW)
