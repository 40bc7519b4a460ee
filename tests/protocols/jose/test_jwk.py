"""Public keys as JWK: what is accepted, and thumbprints (RFC 7517, 7518, 7638, 8037; A24, A29)."""

from __future__ import annotations

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Reason, Refused
from protocols.jose import jwk
from tests.doubles.account_key import account_key, b64, number

# RFC 7638, 3.1
RFC_RSA = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qM"
        "QvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJz"
        "KnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
# RFC 7517, A.1
RFC_EC = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "use": "enc",
    "kid": "1",
}
# RFC 8037, A.2
RFC_OKP = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


def refused(members: dict[str, object]) -> str:
    with pytest.raises(Refused) as caught:
        jwk.parse(members)
    assert caught.value.reason is Reason.BAD_KEY
    return caught.value.detail


@pytest.mark.parametrize(
    ("members", "thumbprint"),
    [
        (RFC_RSA, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),  # RFC 7638, 3.1
        (RFC_OKP, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),  # RFC 8037, A.3
        (RFC_EC, "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"),  # the library `josepy` gives the same
    ],
)
def test_thumbprints_are_those_of_the_rfcs(members, thumbprint):
    # A29
    assert jwk.parse(members).thumbprint == thumbprint


def test_the_canonical_form_has_the_required_members_in_order_and_nothing_else():
    # RFC 7638, 3.2
    assert jwk.parse(RFC_OKP).canonical == (
        b'{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
    )
    assert list(jwk.strict.members(jwk.parse(RFC_RSA).canonical, field="jwk")) == ["e", "kty", "n"]
    assert list(jwk.strict.members(jwk.parse(RFC_EC).canonical, field="jwk")) == ["crv", "kty", "x", "y"]


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "EdDSA", "RS256"])
def test_another_implementation_has_the_same_thumbprint(alg):
    import josepy

    members = account_key(alg).jwk
    if alg == "EdDSA":
        return  # RFC 8037's vector stands above; josepy does not know the kind
    assert jwk.parse(members).thumbprint == b64(josepy.JWK.from_json(members).thumbprint())


@pytest.mark.parametrize("private", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_private_member_is_refused(private):
    # A24
    assert "private" in refused({**account_key().jwk, private: "AQAB"})


def test_symmetric_and_unknown_kinds_are_refused():
    assert "kty" in refused({"kty": "oct"})
    assert "kty" in refused({"kty": ["RSA"]})
    assert "kty" in refused({})


def test_curves_that_are_not_offered_are_refused():
    x = account_key().jwk["x"]
    for curve in ("P-224", "secp256k1", "Ed25519", "", None, 1):
        assert "P-256, P-384, P-521" in refused({"kty": "EC", "crv": curve, "x": x, "y": x})
    for curve in ("Ed448", "X25519", "P-256"):
        assert "Ed25519" in refused({"kty": "OKP", "crv": curve, "x": x})


def test_a_point_must_be_on_its_curve():
    # A24: an invalid point would leak what is computed with it
    members = account_key().jwk
    assert "curve" in refused({**members, "y": members["x"]})
    zero = b64(bytes(32))
    assert "curve" in refused({**members, "x": zero, "y": zero})


def test_coordinates_have_their_full_size():
    # RFC 7518, 6.2.1.2
    members = account_key().jwk
    assert "31 octets instead of 32" in refused({**members, "x": b64(bytes(31))})
    assert "33 octets instead of 32" in refused({**members, "y": b64(bytes(33))})
    assert "31 octets instead of 32" in refused({"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(31))})


def test_rsa_keys_are_judged_like_those_of_certificates():
    # A24
    n = account_key("RS256").key.public_key().public_numbers().n
    members = {"kty": "RSA", "n": number(n), "e": "AQAB"}
    assert jwk.parse(members)
    assert "exponent" in refused({**members, "e": "Aw"})
    assert "2040 bits" in refused({**members, "n": number(n >> 8)})
    assert "small factor" in refused({**members, "n": number(n * 3)})
    assert "too long" in refused({**members, "n": number(1 << 8200 | 1)})
    assert "8200 bits" not in refused({**members, "n": number(1 << 8199 | 1)})


def test_a_number_has_one_spelling():
    # Another spelling would be another thumbprint: another account for the same key.
    n = account_key("RS256").key.public_key().public_numbers().n
    members = {"kty": "RSA", "n": number(n), "e": "AQAB"}
    assert "zero octet" in refused({**members, "n": b64(b"\0" + n.to_bytes(256, "big"))})
    assert "zero octet" in refused({**members, "e": "AAEAAQ"})
    assert "base64url" in refused({**members, "e": "AQAB=="})
    assert "base64url" in refused({**members, "n": members["n"][:-1] + chr(ord(members["n"][-1]) + 1)})
    for wrong in ("", None, 65537, "AQ AB", "AQ+B", "A"):
        refused({**members, "e": wrong})


def test_the_key_that_verifies_is_made_once():
    canonical = jwk.parse(account_key().jwk).canonical
    assert jwk.verifier(canonical) is jwk.verifier(canonical)
    assert isinstance(jwk.verifier(canonical).key, ec.EllipticCurvePublicKey)
    assert isinstance(jwk.verifier(jwk.parse(account_key("RS256").jwk).canonical).key, rsa.RSAPublicKey)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d"]),
        st.one_of(
            st.sampled_from(["RSA", "EC", "OKP", "P-256", "P-521", "Ed25519", "AQAB", RFC_RSA["n"], RFC_EC["x"]]),
            st.text(max_size=50),
            st.none(),
            st.integers(),
        ),
    )
)
def test_any_members_make_a_key_or_a_refusal(members):
    with contextlib.suppress(Refused):
        assert jwk.verifier(jwk.parse(members).canonical)
