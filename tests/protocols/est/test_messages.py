"""Reading EST's credentials and bodies, writing its answers."""

from __future__ import annotations

import base64
import subprocess

import pytest
from asn1crypto import cms
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from protocols.est import messages
from protocols.est.messages import Basic
from protocols.exchange import Malformed, Refused
from tests.doubles.client_keys import ec_key
from tests.doubles.mutation import mutations
from tests.doubles.scep_client import certification_request, self_signed

CSR = certification_request(ec_key("est"), dns=("a.example",))
TEXT = base64.b64encode(CSR)


def basic(text: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic("user:passphrase"), Basic("user", "passphrase")),
        (basic("user:passphrase", "bASIC"), Basic("user", "passphrase")),
        (basic("user:pass:phrase"), Basic("user", "pass:phrase")),
        (basic(":passphrase"), Basic("", "passphrase")),  # RFC 7030, 3.2.3: the user name may be empty
        (basic("jürgen:ßß"), Basic("jürgen", "ßß")),
        (basic("user:"), Basic("user", "")),
        (f"  {basic('a:b')}  ", Basic("a", "b")),
        (basic("no colon"), None),
        (basic("user:passphrase", "Bearer"), None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic /zph", None),  # not UTF-8
        ("", None),
    ],
)
def test_basic_credentials_are_read_strictly(header: str, expected: Basic | None):
    """E90; RFC 7617, 2."""
    assert messages.basic(header) == expected


@given(st.text(), st.text())
def test_any_credentials_survive(user: str, passphrase: str):
    user = user.replace(":", "")
    try:
        header = basic(f"{user}:{passphrase}")
    except UnicodeEncodeError:
        return
    assert messages.basic(header) == Basic(user, passphrase)


@given(st.text())
def test_no_header_raises(header: str):
    messages.basic(header)
    messages.basic(f"Basic {header}")


@pytest.mark.parametrize(
    "media_type",
    ["application/pkcs10", "Application/PKCS10", "application/pkcs10; charset=utf-8", " application/pkcs10 ;x"],
)
def test_the_content_type_may_have_parameters_and_any_case(media_type: str):
    """E37."""
    assert messages.is_pkcs10(media_type)


@pytest.mark.parametrize("media_type", [None, "", "application/pkcs7-mime", "text/plain", "application/pkcs10x"])
def test_another_content_type_is_none(media_type: str | None):
    """E37."""
    assert not messages.is_pkcs10(media_type)


def armoured(label: str) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(CSR) + f"-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(TEXT, id="E31 one line"),
        pytest.param(TEXT + b"\n", id="E31 with an end"),
        pytest.param(base64.encodebytes(CSR), id="E32 76 columns"),
        pytest.param(base64.encodebytes(CSR).replace(b"\n", b"\r\n"), id="E32 CRLF"),
        pytest.param(b" \t\r\n".join(TEXT[at : at + 7] for at in range(0, len(TEXT), 7)), id="E33 spaces and tabs"),
        pytest.param(CSR, id="E35 DER"),
        pytest.param(armoured("CERTIFICATE REQUEST"), id="E36 PEM"),
        pytest.param(b"\r\n " + armoured("NEW CERTIFICATE REQUEST"), id="E36 the old label"),
    ],
)
def test_every_form_of_a_request_is_read(body: bytes):
    assert messages.request(body).der == CSR


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0",
        b"\0",
        b"!!!!",
        TEXT[:-1] + b"*",
        TEXT + b"AAAA",
        TEXT[:40],
        CSR[:-1],
        CSR + b"\0",
        b"0\x80\0\0",
        armoured("CERTIFICATE"),
        b"-----BEGIN",
        b"A" * 70_000,
        b"<html></html>",
        b"\xff\xfe",
    ],
    ids=[f"form {number}" for number in range(15)],  # a signed request's bytes differ from run to run
)
def test_what_is_no_request_is_malformed(body: bytes):
    """E38."""
    with pytest.raises(Malformed):
        messages.request(body)


def test_damage_never_raises_anything_else():
    """E109."""
    read = 0
    for damaged in mutations(b"est", 2000, [TEXT, CSR, base64.encodebytes(CSR), armoured("CERTIFICATE REQUEST")]):
        try:
            messages.request(damaged)
            read += 1
        except (Malformed, Refused):
            pass
    assert 0 < read < 2000


CERTIFICATES = tuple(self_signed(ec_key(name), name).public_bytes(Encoding.DER) for name in ("one", "two", "three"))


@pytest.mark.parametrize(("wrap", "length", "end"), [(0, None, b""), (64, 64, b"\n"), (76, 76, b"\r\n")])
def test_the_answer_is_wrapped_as_the_pair_wants(wrap: int, length: int | None, end: bytes):
    """E28: not at all for strongSwan before 5.9.11, with ends for libest."""
    body = messages.certs_only(CERTIFICATES, wrap)
    if length is None:
        assert b"\n" not in body
        assert b"\r" not in body
    else:
        assert body.endswith(end)
        lines = body.split(end)[:-1]
        assert {len(line) for line in lines[:-1]} == {length}
        assert 0 < len(lines[-1]) <= length
    bag = base64.b64decode(body.replace(b"\r\n", b"").replace(b"\n", b""), validate=True)
    assert {each.public_bytes(Encoding.DER) for each in pkcs7.load_der_pkcs7_certificates(bag)} == set(CERTIFICATES)


def test_openssl_reads_the_answer():
    """E23: certs-only, no signers, no content."""
    bag = base64.b64decode(messages.certs_only(CERTIFICATES, 0))
    done = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"], input=bag, capture_output=True, check=True
    )
    assert done.stdout.count(b"subject=") == 3
    assert len(cms.ContentInfo.load(bag, strict=True)["content"]["signer_infos"]) == 0
