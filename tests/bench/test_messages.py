"""What drivers send: requests that any server would accept, made from templates."""

from __future__ import annotations

import base64
import hmac
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from bench.load.acme import Acme, Enrolling
from bench.load.conversation import Answer, Ask, Conversation, Failed, Origin, Pause, Told, expect
from bench.load.requests import ANY_NAME, Template, elliptic, identifier, names
from bench.load.trust import Trust

DIRECTORY = {
    "newNonce": "https://ca.example/nonce",
    "newAccount": "https://ca.example/account",
    "newOrder": "https://ca.example/order",
}


@pytest.mark.parametrize("kind", ["P-256", "RSA-2048"])
def test_requests_of_a_template_verify_and_each_has_its_own_name(kind: str):
    key = elliptic() if kind == "P-256" else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    template = Template(key, ANY_NAME, "challenge")
    seen = set()
    for _ in range(20):
        name, der = template.next()
        request = x509.load_der_x509_csr(der)
        assert request.is_signature_valid
        assert [each.value for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [name]
        names_of_it = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names_of_it.get_values_for_type(x509.DNSName) == [name]
        assert request.attributes.get_attribute_for_oid(x509.oid.AttributeOID.CHALLENGE_PASSWORD).value == b"challenge"
        seen.add(name)
    assert len(seen) == 20


def test_a_pattern_without_a_number_is_one_name_and_one_request():
    template = Template(elliptic(), "localhost")
    assert template.next() == template.next()


def test_an_address_is_an_ip_identifier_and_an_alternative_name_alone():
    assert identifier("127.0.0.1") == {"type": "ip", "value": "127.0.0.1"}
    assert identifier("h.example") == {"type": "dns", "value": "h.example"}
    request = x509.load_der_x509_csr(Template(elliptic(), "127.0.0.1").next()[1])
    assert len(list(request.subject)) == 0
    assert request.is_signature_valid


def test_names_of_two_runs_do_not_meet():
    assert len({next(names(ANY_NAME)) for _ in range(50)}) == 50


def test_a_request_says_its_length_and_whose_it_is():
    ask = Origin("https://ca.example:8443/x").ask("POST", "https://ca.example:8443/x/y", b"body", "A: b")
    head, _, body = ask.data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /x/y HTTP/1.1"
    assert {b"Host: ca.example:8443", b"A: b", b"Content-Length: 4"} <= set(lines)
    assert any(line.startswith(b"User-Agent: ") for line in lines)  # RFC 8555, 6.1
    assert body == b"body"


@pytest.mark.parametrize(
    "url",
    [
        "https://ca.example.evil.example/x",
        "https://ca.example:8443/x",
        "https://ca.example:x/",
        "http://ca.example/x",
        "http://ca.example:443/x",
        "ca.example/x",
    ],
)
def test_a_url_of_another_origin_is_not_followed(url: str):
    with pytest.raises(Failed, match="another origin"):
        Origin("https://ca.example").target(url)


@pytest.mark.parametrize(
    ("typed", "told", "target"),
    [
        ("http://ca.example:2560", "http://ca.example:2560", "/"),
        ("http://ca.example:2560", "http://ca.example:2560?operation=GetCACaps", "/?operation=GetCACaps"),
        ("https://ca.example:443/acme", "https://ca.example/acme/new-order", "/acme/new-order"),
        ("https://CA.example", "https://ca.example:443/a?b=c&d", "/a?b=c&d"),
    ],
)
def test_one_origin_may_be_written_in_several_ways(typed: str, told: str, target: str):
    """RFC 3986, 6.2.3: a server's directory may name itself otherwise than whoever typed its address."""
    assert Origin(typed).target(told) == target


@pytest.mark.parametrize("status", [429, 503])
def test_not_now_is_no_failure_and_says_when(status: int):
    with pytest.raises(Told) as told:
        expect(Answer(status, {"retry-after": "7"}, b""), 200)
    assert (told.value.status, told.value.after) == (status, 7.0)
    with pytest.raises(Failed):
        expect(Answer(500, {}, b""), 200)


def said(ask: object) -> tuple[dict[str, object], dict[str, object] | None]:
    """The protected header and the payload of a request's JWS."""
    assert isinstance(ask, Ask)
    flattened = json.loads(ask.data.partition(b"\r\n\r\n")[2])
    header = json.loads(decoded(flattened["protected"]))
    return header, json.loads(decoded(flattened["payload"])) if flattened["payload"] else None


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def answer(status: int, body: object = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, b"" if body is None else json.dumps(body).encode())


def registered(fleet: Acme) -> tuple[Conversation[None], object]:
    """A conversation at its request for an account."""
    conversation = Enrolling(fleet, lambda _: None).register()
    next(conversation)
    ask = conversation.send(answer(200, DIRECTORY))
    assert isinstance(ask, Ask)
    assert ask.head_only
    return conversation, conversation.send(answer(200, replay_nonce="n1"))


def test_an_external_account_is_bound_by_its_key():
    # RFC 8555, 7.3.4: the payload is the account's key, the header names the kid and the same url.
    conversation, ask = registered(Acme("https://ca.example/dir", Trust(), eab_kid="kid-1", eab_hmac=b"secret"))
    header, payload = said(ask)
    assert payload is not None
    binding = payload["externalAccountBinding"]
    assert isinstance(binding, dict)
    inner = json.loads(decoded(binding["protected"]))
    assert inner == {"alg": "HS256", "kid": "kid-1", "url": DIRECTORY["newAccount"]}
    assert json.loads(decoded(binding["payload"])) == header["jwk"]
    mac = hmac.digest(b"secret", f"{binding['protected']}.{binding['payload']}".encode(), "sha256")
    assert decoded(binding["signature"]) == mac
    conversation.close()


def test_a_bad_nonce_is_answered_with_the_new_one():
    # RFC 8555, 6.5: the error carries a nonce, with which the request is sent again.
    conversation, _ = registered(Acme("https://ca.example/dir", Trust()))
    again = conversation.send(answer(400, {"type": "urn:ietf:params:acme:error:badNonce"}, replay_nonce="n2"))
    assert said(again)[0]["nonce"] == "n2"
    with pytest.raises(StopIteration):
        conversation.send(answer(201, {}, location="https://ca.example/account/1", replay_nonce="n3"))


def test_an_order_is_followed_from_its_challenge_to_its_chain():
    announced: list[str] = []
    enrolling = Enrolling(Acme("https://ca.example/dir", Trust(), names="h.example"), announced.append)
    registering = enrolling.register()
    next(registering)
    registering.send(answer(200, DIRECTORY))
    registering.send(answer(200, replay_nonce="n"))
    with pytest.raises(StopIteration):
        registering.send(answer(201, {}, location="https://ca.example/account/1", replay_nonce="n"))
    conversation = enrolling.issue("h.example", b"csr")
    order = {
        "status": "pending",
        "authorizations": ["https://ca.example/authz/1"],
        "finalize": "https://ca.example/finalize/1",
    }
    challenge = {"type": "http-01", "url": "https://ca.example/challenge/1", "token": "token", "status": "pending"}
    assert said(next(conversation))[1] == {"identifiers": [{"type": "dns", "value": "h.example"}]}
    assert (
        said(conversation.send(answer(201, order, location="https://ca.example/order/1", replay_nonce="n")))[1] is None
    )
    begun = conversation.send(answer(200, {"status": "pending", "challenges": [challenge]}, replay_nonce="n"))
    assert said(begun) == ({**said(begun)[0], "url": challenge["url"]}, {})
    assert announced[0].startswith("token.")
    assert isinstance(conversation.send(answer(200, {**challenge, "status": "processing"}, replay_nonce="n")), Pause)
    conversation.send(answer(0))
    finalizing = conversation.send(answer(200, {"status": "valid"}, replay_nonce="n"))
    assert said(finalizing)[0]["url"] == order["finalize"]
    done = {**order, "status": "valid", "certificate": "https://ca.example/certificate/1"}
    assert said(conversation.send(answer(200, done, replay_nonce="n")))[0]["url"] == done["certificate"]
    with pytest.raises(StopIteration) as ended:
        conversation.send(Answer(200, {"replay-nonce": "n"}, b"-----BEGIN CERTIFICATE-----"))
    assert ended.value.value == (b"-----BEGIN CERTIFICATE-----", "https://ca.example/order/1")


def test_a_rate_limit_of_acme_is_not_now_whatever_its_status():
    # RFC 8555, 6.6: rateLimited comes with 429 from one server and 403 from another.
    conversation, _ = registered(Acme("https://ca.example/dir", Trust()))
    with pytest.raises(Told):
        conversation.send(answer(403, {"type": "urn:ietf:params:acme:error:rateLimited"}))
