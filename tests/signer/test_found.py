"""What an interrupted ceremony left is found again by whoever asks for the same, and given to nobody who asks otherwise."""

import pytest

from tests.signer.authorities import Keys, load

ASKED = {
    "--subject": "CN=Example",
    "--parent": "root",
    "--path-length": "1",
    "--permitted": "dns_name:example.com",
    "--excluded": "ip_address:10.0.0.0/8",
    "--policy": "1.3.6.1.4.1.99999.1",
}


def words(asked: dict[str, str]) -> list[str]:
    return ["--name", "one", *(word for pair in asked.items() for word in pair)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("found") / "keys")
    made.do("create-authority", "--name", "root", "--subject", "CN=Root", "--path-length", "2")
    made.do("create-authority", "--name", "other", "--subject", "CN=Other", "--path-length", "2")
    made.do("create-authority", *words(ASKED))
    return made


def test_the_same_is_found(keys):
    certificate = keys.store().find("one").certificate
    assert load(keys.do("create-authority", *words(ASKED))["issuing"]["certificate"]) == certificate


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"--subject": "CN=Else"}, "subject"),
        ({"--algorithm": "EC_secp384r1"}, "algorithm"),
        ({"--parent": "other"}, "parent"),
        ({"--parent": None}, "parent"),
        ({"--path-length": "0"}, "path length"),
        ({"--permitted": "dns_name:example.org"}, "permitted names"),
        ({"--permitted": None}, "permitted names"),
        ({"--excluded": None}, "excluded names"),
        ({"--policy": "1.3.6.1.4.1.99999.2"}, "policies"),
    ],
)
def test_something_else_is_not_given_for_what_was_asked(keys, changed, what):
    """Else an authority that was once made without name constraints would be recorded as the one that has them."""
    asked = {flag: value for flag, value in (ASKED | changed).items() if value is not None}
    refused = keys.refused("create-authority", *words(asked))
    assert f"made one (CN=Example) with another {what}: ask for that, or choose another name" in refused


def test_a_request_that_waits_is_given_to_who_asks_for_the_same_alone(keys):
    once = keys.do("request", "--name", "waits", "--subject", "CN=Waits")
    assert keys.do("request", "--name", "waits", "--subject", "CN=Waits")["csr"] == once["csr"]
    for other in (("--subject", "CN=Else"), ("--subject", "CN=Waits", "--algorithm", "RSA_2048")):
        assert "waits waits already, as CN=Waits: ask for the same" in keys.refused(
            "request", "--name", "waits", *other
        )
