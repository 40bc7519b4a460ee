"""What a swarm is told, and what its users make of answers: the parts that need no locust, which would change sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import eab
from bench.load.conversation import Answer
from bench.swarm.mistakes import refuse
from bench.swarm.options import MIX, Options, WrongOption, options, quickstart
from bench.swarm.responder import KeyAuthorizations, answer, is_token
from bench.swarm.shapes import MORNING, SHAPES, STEADY, STORM, spawn_rate, users_at
from bench.swarm.told import LONGEST, UNSAID, few, of_the_network, wait

FACTS = {
    "root": "/data/root.pem",
    "adminToken": "token",
    "application": "demo",
    "profile": "tls-server",
    "acmeDirectory": "https://h/acme/demo/tls-server/directory",
    "est": {"url": "https://h/est/demo/device", "user": "device", "passphrase": "secret"},
    "scep": {"url": "http://h/scep/demo/device", "challenge": "challenge"},
    "rest": "https://h/api/v1/cert-manager",
    "pid": 1,
}


def told(**given: object) -> SimpleNamespace:
    return SimpleNamespace(**given)


def test_a_data_folder_names_every_door_of_its_demo_application(tmp_path: Path):
    (tmp_path / "quickstart.json").write_text(json.dumps(FACTS))
    found = options(told(muster_data=str(tmp_path)), {})
    assert found.doors() == dict(MIX)
    assert (found.est_passphrase, found.scep_challenge, found.rest_token) == ("secret", "challenge", "token")
    assert found.trust().authority == "/data/root.pem"


def test_a_door_whose_secret_was_deleted_is_not_tried(tmp_path: Path):
    facts = FACTS | {"scep": {"url": "http://h/scep/demo/device", "challenge": ""}}
    (tmp_path / "quickstart.json").write_text(json.dumps(facts))
    assert set(quickstart(tmp_path).doors()) == {"acme", "est", "rest"}


def test_what_is_said_wins_over_what_the_folder_says(tmp_path: Path):
    (tmp_path / "quickstart.json").write_text(json.dumps(FACTS))
    said = told(muster_data=str(tmp_path), est_url="https://other/est", mix="est=1", pace=0.0)
    found = options(said, {"SWARM_EST_PASSPHRASE": "of the environment"})
    assert (found.est_url, found.est_passphrase, found.pace) == ("https://other/est", "of the environment", 0.0)
    assert found.doors() == {"est": 1}


def test_secrets_come_by_file_where_the_environment_names_one(tmp_path: Path):
    (tmp_path / "token").write_text("of the file\n")
    assert options(told(), {"SWARM_REST_TOKEN_FILE": str(tmp_path / "token")}).rest_token == "of the file"
    with pytest.raises(WrongOption, match="SWARM_REST_TOKEN_FILE"):
        options(told(), {"SWARM_REST_TOKEN_FILE": str(tmp_path / "nowhere")})


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (told(), "no server"),
        (told(est_url="https://h", mix="est=0"), "no server"),
        (told(est_url="https://h", mix="est=1,acme=2"), "acme"),
        (told(est_url="https://h", mix="est"), "'est'"),
        (told(est_url="https://h", mix="cmp=1"), "'cmp=1'"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(said: SimpleNamespace, sentence: str):
    with pytest.raises(WrongOption, match=sentence):
        options(said, {}).doors()


REST = Options(rest_url="https://h/v1", rest_token="t", rest_application="a", rest_profile="p")
ACME = Options(acme_directory="https://h/directory")
EST = Options(est_url="https://h/est", est_user="u", est_passphrase="p")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        *((replace(ACME, acme_http01=f"127.0.0.1:{port}"), "--acme-http01") for port in ("abc", "99999", "0", "", "²")),
        (replace(REST, ca="/nowhere.pem"), "--ca: /nowhere.pem cannot be used: No such file"),
        (replace(REST, ca=__file__), "--ca: "),
        (replace(EST, est_certificate="/nowhere.pem"), "--est-certificate: /nowhere.pem cannot be used: No such file"),
        (replace(EST, est_key="/nowhere.pem"), "--est-key goes with --est-certificate"),
        (replace(EST, est_certificate=__file__, est_key="/nowhere.pem"), "with --est-key /nowhere.pem"),
        (replace(EST, est_passphrase=""), "--est-user goes with a passphrase: SWARM_EST_PASSPHRASE"),
        *(
            (Options(**{field: url}), f"--{field.replace('_', '-')}: ")
            for field in ("acme_directory", "est_url", "scep_url", "rest_url")
            for url in ("notaurl", "ftp://x", "http://", "https://h:port/", "http://h/a b", "http://h/\n", "http://ä/")
        ),
        *((replace(REST, pace=pace), "--pace: ") for pace in (-1.0, float("nan"), float("inf"))),
        *((replace(EST, est_reenroll=share), "--est-reenroll: ") for share in (7.0, -0.1, float("nan"))),
        (replace(REST, rest_token=""), "--rest-url goes with a token .SWARM_REST_TOKEN or SWARM_REST_TOKEN_FILE."),
        (replace(REST, rest_application=""), "--rest-url goes with --rest-application"),
        (replace(REST, rest_application="", rest_profile=""), "--rest-application, --rest-profile"),
        (Options(), "no server"),
    ],
)
def test_what_cannot_work_is_one_sentence_that_names_the_option(told: Options, sentence: str):
    with pytest.raises(WrongOption, match=sentence) as mistake:
        refuse(told)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    "told",
    [
        replace(REST, pace=0.0),
        *(replace(ACME, acme_http01=address) for address in ("8088", "localhost:65535", "[::1]:80", "0.0.0.0:80", "")),
        *(replace(EST, est_reenroll=share) for share in (0.0, 1.0)),
        replace(REST, rest_token="", est_url="https://h/est", mix="est=1"),
        Options(scep_url="http://h:8080/scep?a=b"),
    ],
)
def test_what_can_work_is_not_refused(told: Options):
    refuse(told)


def test_a_slash_behind_a_url_that_operations_are_below_is_none_before_them():
    found = options(told(est_url="https://h/est/demo/device/", rest_url="https://h/v1/"), {})
    assert (found.est_url, found.rest_url) == ("https://h/est/demo/device", "https://h/v1")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"root": 1}'])
def test_a_folder_without_a_quickstart_is_told(tmp_path: Path, text: str):
    if text:
        (tmp_path / "quickstart.json").write_text(text)
    with pytest.raises(WrongOption, match="quickstart"):
        options(told(muster_data=str(tmp_path)), {})


@pytest.mark.parametrize(
    ("kid", "key", "sentence"), [("k", "", "go together"), ("", "aaaa", "go together"), ("k", "no key", "base64url")]
)
def test_a_binding_without_its_key_or_with_one_that_is_none_is_told_before_anybody_comes(
    kid: str, key: str, sentence: str
):
    with pytest.raises(WrongOption, match=sentence):
        options(told(eab_kid=kid), {"SWARM_ACME_EAB_HMAC": key})


def test_an_external_account_binding_is_a_mac_over_the_accounts_key():
    """RFC 8555, 7.3.4: HS256, kid and url in the protected header, no nonce, the account's JWK as the payload."""
    jwk = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "BB"}
    key = eab.mac_key(base64.urlsafe_b64encode(b"k" * 32).rstrip(b"=").decode())
    made = eab.binding("kid-1", key, jwk, "https://h/new-account")
    signed = f"{made['protected']}.{made['payload']}".encode()
    mac = hmac.new(b"k" * 32, signed, hashlib.sha256).digest()
    assert _decoded(made["signature"]) == mac
    assert json.loads(_decoded(made["payload"])) == jwk
    assert json.loads(_decoded(made["protected"])) == {"alg": "HS256", "kid": "kid-1", "url": "https://h/new-account"}


@pytest.mark.parametrize("text", ["a", "a b", "\u00e4", "ab$d"])
def test_a_key_that_is_no_base64url_is_told(text: str):
    with pytest.raises(ValueError, match="not base64url"):
        eab.mac_key(text)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_http01_is_answered_for_a_known_token_at_its_own_path_only():
    """RFC 8555, 8.3."""
    answers = {b"tok": b"tok.thumb"}
    found = answer(b"GET /.well-known/acme-challenge/tok HTTP/1.1\r\nHost: a\r\n\r\n", answers.get)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert found.endswith(b"\r\n\r\ntok.thumb")
    for head in (
        b"GET /.well-known/acme-challenge/other HTTP/1.1\r\n\r\n",
        b"GET /tok HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"",
    ):
        assert answer(head, answers.get).startswith(b"HTTP/1.1 404 ")


def test_what_one_process_said_is_known_to_all_that_share_its_folder_until_it_is_forgotten(tmp_path: Path):
    one, other = (KeyAuthorizations(tmp_path / "said") for _ in range(2))
    one.say("tok", "tok.thumb")
    assert (one.get(b"tok"), other.get(b"tok"), other.get(b"unknown")) == (b"tok.thumb", b"tok.thumb", None)
    one.forget("tok")
    one.forget("tok")
    assert other.get(b"tok") is None


def test_what_a_killed_process_left_is_gone_an_hour_later_and_what_is_young_stays(tmp_path: Path):
    first = KeyAuthorizations(tmp_path / "said")
    first.say("old", "old.thumb")
    first.say("young", "young.thumb")
    os.utime(tmp_path / "said" / "old", (0, 0))
    later = KeyAuthorizations(tmp_path / "said")
    assert (later.get(b"old"), later.get(b"young")) == (None, b"young.thumb")


def test_a_folder_that_others_may_write_to_says_nothing(tmp_path: Path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    for name in ("open", "elsewhere"):
        with pytest.raises(PermissionError, match="of this user alone"):
            KeyAuthorizations(tmp_path / name)


@pytest.mark.parametrize("token", ["", ".", "..", "../token", "a/b", "a.b", "tok\u00e4n", "a" * 201])
def test_a_token_that_could_be_a_path_is_none(token: str):
    """RFC 8555, 8.3: only characters of the base64url alphabet."""
    assert not is_token(token)
    asked = b"GET /.well-known/acme-challenge/%b HTTP/1.1\r\n\r\n" % token.encode()
    assert answer(asked, lambda _: b"said").startswith(b"HTTP/1.1 404 ")
    assert is_token("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA")


@given(st.sampled_from(SHAPES), st.floats(0, 10_000), st.integers(1, 5000), st.floats(0, 5000))
def test_no_shape_ever_asks_for_more_users_than_the_peak(shape: str, elapsed: float, peak: int, length: float):
    assert 0 <= users_at(shape, elapsed, peak, length) <= peak
    assert spawn_rate(shape, peak, 3.0) >= min(3.0, peak)


def test_shapes_are_what_they_are_called():
    assert {users_at(STEADY, at, 100, 600.0) for at in (0.0, 300.0, 600.0)} == {100}
    assert users_at(MORNING, 210.0, 100, 600.0) == 100
    assert users_at(MORNING, 0.0, 100, 600.0) < 20 > users_at(MORNING, 600.0, 100, 600.0)
    before, outage, storm = (users_at(STORM, at, 100, 600.0) for at in (0.0, 200.0, 301.0))
    assert (before, outage, storm) == (10, 0, 100)
    assert spawn_rate(STORM, 100, 1.0) == 100  # nobody waits for his turn


def test_a_retry_after_is_waited_for_within_bounds_and_not_by_all_at_one_moment():
    """RFC 9110, 10.2.3."""
    waits = {wait(Answer(503, {"retry-after": "10"}, b"")) for _ in range(20)}
    assert all(10 <= each <= 12 for each in waits)
    assert len(waits) > 1
    assert wait(Answer(503, {"retry-after": "86400"}, b"")) <= LONGEST * 1.2
    assert UNSAID <= wait(Answer(503, {}, b"")) <= UNSAID * 1.2
    assert UNSAID <= wait(Answer(503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"")) <= UNSAID * 1.2


def test_failures_are_named_in_few_enough_words_to_be_counted():
    first, second = (few(f"order 01a1fd29-847e-78f3 of host-{n} failed") for n in (17, 18))
    assert first == second == "order # of host-# failed"
    assert len(few("x" * 500)) == 80
    assert of_the_network(ConnectionResetError()) == "ConnectionResetError"
    assert of_the_network(TimeoutError("timed out")) == "TimeoutError: timed out"
