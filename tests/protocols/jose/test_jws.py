"""Flattened JWS: what is read, and what never is (RFC 7515, 7518; A15, A17 to A20, A23)."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocols.exchange import Malformed, Refused
from protocols.jose import jwk, jws
from tests.doubles.account_key import account_key, b64
from tests.doubles.mutation import mutations

KID = {"kid": "https://muster.example/account/1", "nonce": "abcd", "url": "https://muster.example/x"}


def verifier(alg: str = "ES256", which: int = 0) -> jwk.Verifier:
    return jwk.verifier(jwk.parse(account_key(alg, which).jwk).canonical)


def malformed(body: bytes) -> Malformed:
    with pytest.raises(Malformed) as caught:
        jws.parse(body)
    return caught.value


def flattened(header: object, /, payload: str = "", signature: str = "AA", **more: object) -> bytes:
    protected = header if isinstance(header, str) else b64(json.dumps(header).encode())
    return json.dumps({"protected": protected, "payload": payload, "signature": signature, **more}).encode()


def test_a_signed_request_is_read():
    body = account_key().request({**KID, "unknown": [1]}, b'{"a":1}')
    read = jws.parse(body)
    assert (read.alg, read.kid, read.jwk, read.nonce, read.url) == ("ES256", KID["kid"], None, "abcd", KID["url"])
    assert read.payload == b'{"a":1}'
    jws.verify(read, verifier())


def test_a_request_may_carry_its_key():
    read = jws.parse(account_key().request({"jwk": account_key().jwk}, b""))
    assert (read.jwk, read.kid, read.nonce, read.url) == (account_key().jwk, None, None, None)
    assert read.payload == b""


@pytest.mark.parametrize("alg", jws.ALGORITHMS)
def test_each_algorithm_verifies_its_own_signature_and_no_other(alg):
    # A18
    kind = "RS256" if alg.startswith("PS") else alg
    key = account_key(alg)
    read = jws.parse(key.request(KID, b"{}"))
    jws.verify(read, jwk.verifier(jwk.parse(key.jwk).canonical))
    with pytest.raises(Malformed, match="does not verify"):
        jws.verify(read, verifier(kind, 1))
    other = jws.parse(key.request(KID, b"{ }"))
    moved = jws.Jws(read.alg, read.kid, None, None, None, b"", read.signed, other.signature)
    with pytest.raises(Malformed, match="does not verify"):
        jws.verify(moved, jwk.verifier(jwk.parse(key.jwk).canonical))


@pytest.mark.parametrize(
    "alg", ["HS256", "HS384", "none", "None", "", "RS1", "ES256K", "RSA-OAEP", "es256", "x" * 1000]
)
def test_an_algorithm_that_is_not_offered_is_refused_with_those_that_are(alg):
    # A18: a shared secret made of a public key, and no signature at all, are the oldest attacks on JWS
    body = flattened({"alg": alg, **KID})
    with pytest.raises(jws.BadAlgorithm, match=r"ES256, RS256, ES384, ES512, EdDSA") as caught:
        jws.parse(body)
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize("alg", ["ES256", "ES384", "RS256", "EdDSA", "PS256"])
@pytest.mark.parametrize("kind", ["ES256", "ES384", "ES512", "RS256", "EdDSA"])
def test_an_algorithm_must_be_the_key_s(alg, kind):
    # A19
    if alg == kind or (alg, kind) == ("PS256", "RS256"):
        return
    read = jws.parse(account_key(alg).request(KID, b"{}"))
    with pytest.raises(jws.BadAlgorithm, match="not for a key of kind"):
        jws.verify(read, verifier(kind))


def test_ecdsa_signatures_have_one_length():
    # A19; RFC 7518, 3.4
    key = account_key()
    read = jws.parse(key.request(KID, b"{}"))
    r, s = int.from_bytes(read.signature[:32], "big"), int.from_bytes(read.signature[32:], "big")
    for wrong in (encode_dss_signature(r, s), read.signature[:-1], read.signature + b"\0", b"", bytes(64)):
        odd = jws.Jws(read.alg, read.kid, None, None, None, b"", read.signed, wrong)
        with pytest.raises(Malformed):
            jws.verify(odd, verifier())


@pytest.mark.parametrize("alg", ["ES256", "ES384"])
def test_an_ecdsa_signature_verifies_however_its_numbers_begin(alg):
    # A19: zeros that DER drops, and a first bit that it would take for a sign, in r and in s.
    key, seen = account_key(alg), set()
    for _ in range(20_000):
        read = jws.parse(key.request(KID, b"{}"))
        jws.verify(read, verifier(alg))
        half = len(read.signature) // 2
        seen |= {(at, "zero" if not read.signature[at] else read.signature[at] >> 7) for at in (0, half)}
        if len(seen) == 6:
            return
    raise AssertionError(f"only {seen}")


@pytest.mark.parametrize(
    "more",
    [{"header": {"kid": "another"}}, {"header": {}}, {"signatures": []}, {"signatures": [{"signature": "AA"}]}],
)
def test_an_unprotected_header_and_a_second_signature_are_refused(more):
    # A15
    assert malformed(flattened({"alg": "ES256", **KID}, **more)).field in ("header", "signatures")


def test_other_members_are_passed_over():
    # RFC 7515, 7.2.2
    assert jws.parse(flattened({"alg": "ES256", **KID}, more=1)).alg == "ES256"


@pytest.mark.parametrize("name", ["crit", "b64"])
@pytest.mark.parametrize("value", [["exp"], True, None])
def test_header_parameters_that_would_change_the_meaning_are_refused(name, value):
    # A23; RFC 7797
    assert malformed(flattened({"alg": "ES256", **KID, name: value})).field == name


def test_exactly_one_of_kid_and_jwk():
    # A20
    assert malformed(flattened({"alg": "ES256"})).field == "kid"
    assert malformed(flattened({"alg": "ES256", **KID, "jwk": account_key().jwk})).field == "kid"
    assert malformed(flattened({"alg": "ES256", "jwk": "text"})).field == "jwk"
    assert malformed(flattened({"alg": "ES256", "jwk": None})).field == "kid"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "JWS"),
        (b"null", "JWS"),
        (b"[]", "JWS"),
        (b"\xff{}", "JWS"),
        (b"{}", "protected"),
        (b"eyJhbGciOiJFUzI1NiJ9..AA", "JWS"),  # compact
        (flattened({"alg": "ES256", **KID}).replace(b'"payload": "", ', b""), "payload"),  # detached, A15
        (flattened({"alg": "ES256", **KID}, payload="e30="), "payload"),
        (flattened({"alg": "ES256", **KID}, payload="e3"), "payload"),
        (flattened({"alg": "ES256", **KID}, payload="ée"), "payload"),
        (flattened({"alg": "ES256", **KID}, signature="A+"), "signature"),
        (flattened("e30="), "protected"),
        (flattened(b64(b"[]")), "protected header"),
        (flattened({**KID}), "alg"),
        (flattened({"alg": None, **KID}), "alg"),
        (flattened({"alg": "ES256", **KID, "nonce": 1}), "nonce"),
        (flattened({"alg": "ES256", **KID, "url": None}), "url"),
        (flattened({"alg": "ES256", **KID, "kid": {}}), "kid"),
    ],
)
def test_what_is_no_flattened_jws_is_malformed_where_it_is_wrong(body, field):
    assert malformed(body).field == field


def test_a_member_twice_is_malformed_wherever_it_stands():
    # A17: two readers would read two different requests
    twice = b'{"alg":"ES256","alg":"none","kid":"x"}'
    assert "'alg' twice" in malformed(flattened(b64(twice))).detail
    body = flattened({"alg": "ES256", **KID})
    assert "'payload' twice" in malformed(body[:-1] + b',"payload":"e30"}').detail
    nested = b'{"alg":"ES256","jwk":{"kty":"EC","kty":"RSA"}}'
    assert "'kty' twice" in malformed(flattened(b64(nested))).detail


def test_damaged_requests_are_read_or_malformed_and_never_verify():
    # A120
    bodies = tuple(
        account_key(alg).request({**KID, **({"jwk": account_key(alg).jwk} if alg == "EdDSA" else {})}, b'{"a":1}')
        for alg in ("ES256", "RS256")
    )
    keyed = account_key("EdDSA").request({"jwk": account_key("EdDSA").jwk, "nonce": "a", "url": "u"}, b"{}")
    sound = {(jws.parse(body).signed, jws.parse(body).signature) for body in (*bodies, keyed)}
    for damaged in mutations(b"jws", 2000, (*bodies, keyed)):
        try:
            read = jws.parse(damaged)
            key = verifier() if read.jwk is None else jwk.verifier(jwk.parse(read.jwk).canonical)
            jws.verify(read, key)
        except (Malformed, Refused):
            continue
        assert (read.signed, read.signature) in sound


def test_damage_below_the_base64_is_read_or_malformed():
    headers = tuple(
        json.dumps({"alg": "ES256", "nonce": "a", "url": "u", **who}).encode()
        for who in ({"kid": "x"}, {"jwk": account_key().jwk})
    )
    seen = 0
    for damaged in mutations(b"header", 3000, headers):
        try:
            read = jws.parse(flattened(b64(damaged)))
            seen += 1
            if read.jwk is not None:
                jwk.parse(read.jwk)
        except (Malformed, Refused):
            pass
    assert seen > 0
