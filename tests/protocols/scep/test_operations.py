"""SCEP's operations, played by hand with a client and an RA in memory."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from asn1crypto import cms
from asn1crypto import csr as asn1_csr
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.cms import algorithms, der
from protocols.exchange import Reason, Refused, Reply
from protocols.scep import needs
from protocols.scep.operations import operate
from tests.doubles.client_keys import ec_key, rsa_key
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import raw_request
from tests.doubles.play import play
from tests.doubles.scep_client import RENEWAL_REQ, CertRep, ScepClient, certification_request, self_signed
from tests.doubles.scep_ra import NOW, ScepRa

NONCE = bytes(range(64))
BAD_ALG, BAD_MESSAGE_CHECK, BAD_REQUEST, BAD_CERT_ID = "0", "1", "2", "4"


def make_ra(**how: object) -> ScepRa:
    return ScepRa(rsa_key("ra"), ec_key("ca"), **how)


def make_client(certificate: x509.Certificate | None = None, **how: object) -> ScepClient:
    key = rsa_key("client")
    return ScepClient(key, certificate or self_signed(key), **how)


def post(ra: ScepRa, body: bytes, *, renewal: bool = True, query: str = "operation=PKIOperation") -> Reply:
    return play(operate("POST", query, body, nonce=NONCE, now=NOW, renewal=renewal), ra.answer)


def get(ra: ScepRa, query: str, *, renewal: bool = True) -> Reply:
    return play(operate("GET", query, b"", nonce=NONCE, now=NOW, renewal=renewal), ra.answer)


def certrep(ra: ScepRa, client: ScepClient, reply: Reply) -> CertRep:
    """S14, S16, S17: a CertRep is a 200 whatever it says, with the media type alone."""
    assert reply.status == 200, reply.body
    assert reply.media_type == "application/x-pki-message"
    assert reply.headers == (("Cache-Control", "no-store"),)
    said = client.read(reply.body, ra.certificate)
    assert said.transaction_id == client.transaction_id
    assert said.recipient_nonce == client.sender_nonce
    assert said.sender_nonce == NONCE[:16]
    return said


def request(challenge: str | None = "secret", key: rsa.RSAPrivateKey | None = None) -> bytes:
    return certification_request(key or rsa_key("client"), challenge=challenge)


def spki(certificate: bytes) -> object:
    return x509.load_der_x509_certificate(certificate).public_key()


# PKCSReq


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("cipher", ["aes128_cbc", "aes192_cbc", "aes256_cbc"])
@pytest.mark.parametrize("transport", ["pkcs1v15", "oaep-sha1", "oaep-sha256"])
def test_a_request_is_answered_in_its_own_algorithms(digest: str, cipher: str, transport: str):
    """S44, S49, S50, S56, S84-S88: SUCCESS, the leaf first, what the pair includes after it."""
    ra, client = make_ra(), make_client(digest=digest, cipher=cipher, transport=transport)
    said = certrep(ra, client, post(ra, client.pki_message(request(), ra.certificate)))
    assert (said.status, said.fail_info, said.text) == ("0", None, None)
    assert (said.digest, said.cipher) == (digest, cipher)
    leaf, issuer = said.certificates
    assert spki(leaf) == rsa_key("client").public_key()
    assert issuer == ra.ca.public_bytes(Encoding.DER)


@pytest.mark.parametrize("signature", ["rsa", "sha-with-rsa", "pss"])
@pytest.mark.parametrize("by_key_identifier", [False, True])
def test_a_request_may_be_signed_in_every_way(signature: str, by_key_identifier: bool):
    """S41, S45."""
    ra = make_ra(include=False)
    client = make_client(signature=signature, by_key_identifier=by_key_identifier)
    said = certrep(ra, client, post(ra, client.pki_message(request(), ra.certificate)))
    assert len(said.certificates) == 1


def test_the_host_is_asked_in_an_order_that_saves_the_private_key():
    ra, client = make_ra(), make_client()
    post(ra, client.pki_message(request(), ra.certificate))
    assert ra.names() == ["CaCertificates", "UnwrapKey", "Enroll", "SignAttributes"]
    asked = ra.asked[2]
    assert isinstance(asked, needs.Enroll)
    assert asked.challenge == "secret"
    assert asked.transaction.id == b"transaction-1"
    assert len(asked.transaction.signer) == 32
    unwrap = ra.asked[1]
    assert isinstance(unwrap, needs.UnwrapKey)
    assert (unwrap.algorithm, unwrap.length) == ("pkcs1v15", 16)


def test_a_message_of_openssl_enrolls_and_its_answer_opens_with_openssl(tmp_path: Path):
    """S39, S93: the envelope made by OpenSSL in pieces of indefinite length, the answer verified and opened by it."""
    ra, client = make_ra(), make_client()
    (tmp_path / "ra.pem").write_bytes(ra.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(ra.ca.public_bytes(Encoding.PEM))
    envelope = subprocess.run(
        ["openssl", "cms", "-encrypt", "-binary", "-stream", "-outform", "DER", "-aes-256-cbc", "ra.pem"],
        cwd=tmp_path, input=request(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert envelope[1] == 0x80
    reply = post(ra, client.pki_message(b"", ra.certificate, envelope=envelope))
    assert certrep(ra, client, reply).status == "0"
    command = "openssl cms -verify -inform DER -CAfile ca.pem -partial_chain -no_check_time -purpose any -noverify"
    done = subprocess.run(command.split(), cwd=tmp_path, input=reply.body, capture_output=True, check=True)
    printed = subprocess.run(
        ["openssl", "cms", "-cmsout", "-print", "-inform", "DER"], input=done.stdout, capture_output=True, check=True
    ).stdout
    assert b"aes-256-cbc" in printed


def test_no_challenge_is_for_the_host_to_refuse():
    """S57: a missing challenge is asked about like any other, so that it looks like a wrong one."""
    ra, client = make_ra(), make_client()
    ra.outcome = Refused(Reason.UNAUTHENTICATED, "the detail")
    said = certrep(ra, client, post(ra, client.pki_message(request(None), ra.certificate)))
    assert (said.status, said.fail_info) == ("2", BAD_REQUEST)
    assert said.text is not None
    assert "the detail" not in said.text
    assert said.certificates == ()


def test_a_request_that_waits_is_pending():
    """S87: without any content."""
    ra, client = make_ra(), make_client()
    ra.outcome = needs.Waiting()
    said = certrep(ra, client, post(ra, client.pki_message(request(), ra.certificate)))
    assert (said.status, said.certificates, said.fail_info) == ("3", (), None)


@pytest.mark.parametrize("reason", [Reason.BUSY, Reason.UNAVAILABLE, Reason.RATE_LIMITED])
@pytest.mark.parametrize("where", [needs.CaCertificates, needs.UnwrapKey, needs.Enroll, needs.SignAttributes])
def test_a_busy_server_asks_for_the_same_message_again(reason: Reason, where: type):
    """S120: at each step, without a CertRep that would cost another private-key operation."""
    ra, client = make_ra(), make_client()

    def answer(need: object) -> object:
        if isinstance(need, where):
            raise Refused(reason, "busy", retry_after=7)
        return ra.answer(need)

    body = client.pki_message(request(), ra.certificate)
    reply = play(operate("POST", "", body, nonce=NONCE, now=NOW, renewal=True), answer)
    assert reply.status == (429 if reason is Reason.RATE_LIMITED else 503)
    assert reply.headers == (("Retry-After", "7"),)


def test_the_hosts_own_mistakes_are_not_hidden():
    ra, client = make_ra(), make_client()
    ra.outcome = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        post(ra, client.pki_message(request(), ra.certificate))


def test_what_the_policy_refuses_is_told_in_255_octets():
    """S91: cut between characters."""
    ra, client = make_ra(), make_client()
    ra.outcome = Refused(Reason.POLICY, "x", violations=("ä" * 200,))
    said = certrep(ra, client, post(ra, client.pki_message(request(), ra.certificate)))
    assert (said.fail_info, said.text) == (BAD_REQUEST, "ä" * 127)


# Whose key it is


def test_a_request_for_somebody_elses_key_is_refused():
    """S61: the certification request verifies, but the message is signed with another key."""
    ra, client = make_ra(), make_client()
    for renewal in (True, False):
        body = client.pki_message(request(key=rsa_key("other")), ra.certificate)
        said = certrep(ra, client, post(ra, body, renewal=renewal))
        assert (said.status, said.fail_info) == ("2", BAD_REQUEST)
    assert not any(isinstance(need, needs.Enroll | needs.Renew) for need in ra.asked)


def test_a_certification_request_that_does_not_verify_is_refused():
    """S61, S122: like an envelope that does not open."""
    ra, client = make_ra(), make_client()
    damaged = request()[:-1] + b"\0"
    said = certrep(ra, client, post(ra, client.pki_message(damaged, ra.certificate)))
    assert (said.status, said.fail_info) == ("2", BAD_MESSAGE_CHECK)


# RenewalReq


def renewing(ra: ScepRa, **how: object) -> ScepClient:
    return make_client(ra.issue("device-1", rsa_key("client").public_key()), **how)


@pytest.mark.parametrize("challenge", [None, "secret"])
def test_a_renewal_is_signed_by_the_old_certificate_and_closed_to_it(challenge: str | None):
    """S65, S92: no challenge is asked about, and the new key is another."""
    ra = make_ra()
    client = renewing(ra)
    body = client.pki_message(request(challenge, rsa_key("new")), ra.certificate, message_type=RENEWAL_REQ)
    said = certrep(ra, client, post(ra, body))
    assert spki(said.certificates[0]) == rsa_key("new").public_key()
    asked = ra.asked[2]
    assert isinstance(asked, needs.Renew)
    assert asked.certificate == client.certificate.public_bytes(Encoding.DER)


def test_a_renewal_is_refused_where_it_is_off_or_self_signed():
    """S21, S66: before anything is decrypted."""
    ra = make_ra()
    client = renewing(ra)
    body = client.pki_message(request(), ra.certificate, message_type=RENEWAL_REQ)
    assert certrep(ra, client, post(ra, body, renewal=False)).fail_info == BAD_REQUEST
    client = make_client()
    body = client.pki_message(request(), ra.certificate, message_type=RENEWAL_REQ)
    assert certrep(ra, client, post(ra, body)).fail_info == BAD_REQUEST
    assert "UnwrapKey" not in ra.names()


@pytest.mark.parametrize("reason", [Reason.FORBIDDEN, Reason.REVOKED, Reason.EXPIRED, Reason.NAME_MISMATCH])
def test_a_renewal_that_the_host_refuses_is_a_bad_request(reason: Reason):
    """S67."""
    ra = make_ra(outcome=Refused(reason, "no"))
    client = renewing(ra)
    body = client.pki_message(request(None), ra.certificate, message_type=RENEWAL_REQ)
    assert certrep(ra, client, post(ra, body)).fail_info == BAD_REQUEST


@pytest.mark.parametrize(
    ("challenge", "new_key", "renewal", "asked"),
    [
        (None, False, True, needs.Renew),
        (None, True, True, needs.Renew),
        ("secret", True, True, needs.Renew),  # macOS
        ("secret", False, True, needs.Enroll),
        (None, False, False, needs.Enroll),  # which the host refuses, as without any certificate
        ("secret", True, False, None),
    ],
)
def test_a_pkcsreq_of_an_old_certificate_is_judged_as_what_it_is(
    challenge: str | None, new_key: bool, renewal: bool, asked: type | None
):
    """S69: sscep and macOS renew so. With a challenge and its own key it is an enrollment like any other."""
    ra = make_ra()
    client = renewing(ra)
    key = rsa_key("new") if new_key else rsa_key("client")
    said = certrep(ra, client, post(ra, client.pki_message(request(challenge, key), ra.certificate), renewal=renewal))
    if asked is None:
        assert said.status == "2"
        assert not any(isinstance(need, needs.Enroll | needs.Renew) for need in ra.asked)
    else:
        assert said.status == "0"
        assert isinstance(ra.asked[2], asked)


# Every other message type


@pytest.mark.parametrize("kind", [n for n in range(256) if n not in (17, 19)])
def test_every_other_message_type_fails_without_decryption(kind: int):
    """S58, S59, S72: UpdateReq (18) too, with a challenge and a certificate that are right; default deny."""
    ra = make_ra()
    client = renewing(ra)
    body = client.pki_message(request(), ra.certificate, message_type=kind)
    said = certrep(ra, client, post(ra, body))
    assert said.status == "2"
    assert said.fail_info == (BAD_CERT_ID if kind == 20 else BAD_REQUEST)
    assert ra.names() == ["CaCertificates", "SignAttributes"]


@pytest.mark.parametrize("kind", ["0019", "-19", "nineteen", ""])
def test_a_message_type_that_is_no_number_fails(kind: str):
    ra, client = make_ra(), make_client()
    said = certrep(ra, client, post(ra, client.pki_message(request(), ra.certificate, message_type=kind)))
    assert (said.status, said.fail_info) == ("2", BAD_REQUEST)


# Before the private key


def test_a_forged_signature_fails_before_anything_is_decrypted():
    """S46, S122."""
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(), ra.certificate)
    forged = body[:-1] + bytes([body[-1] ^ 1])
    altered = client.sign(b"other", client.attributes(b"content"))
    nobody = client.sign(b"x", client.attributes(b"x"), certificates=0)
    for octets in (forged, altered, nobody):
        reply = post(ra, octets)
        assert certrep(ra, client, reply).fail_info == BAD_MESSAGE_CHECK
        assert reply.wrong  # 200, and its sender's fault
    assert "UnwrapKey" not in ra.names()
    assert not post(ra, body).wrong


def test_a_failure_that_the_host_has_no_time_to_sign_is_503_and_its_senders_fault():
    """S120: strangers are not to have private-key operations for nothing while there is too much to do."""
    ra, client = make_ra(), make_client()
    ra.refuse_failures = True
    body = client.pki_message(request(), ra.certificate)
    reply = post(ra, body[:-1] + bytes([body[-1] ^ 1]))
    assert (reply.status, reply.wrong) == (503, True)
    assert dict(reply.headers)["Retry-After"]
    assert post(ra, body).status == 200


def test_algorithms_that_are_not_spoken_are_said_to_be_so():
    """S45, S50, S89, S90, before anything is decrypted."""
    ra = make_ra()
    curve = ScepClient(ec_key("client"), self_signed(ec_key("client")), signature="ecdsa")
    small = ScepClient(rsa_key("short", 1024), self_signed(rsa_key("short", 1024)))
    for client in (curve, small, make_client(cipher="tripledes_3key")):
        said = certrep(ra, client, post(ra, client.pki_message(request(), ra.certificate)))
        assert (said.status, said.fail_info) == ("2", BAD_ALG)
    client = make_client(transport="oaep-sha256")
    envelope = client.envelope(request(), ra.certificate)
    sha256, sha512 = algorithms.SHA256.oid, algorithms.SHA512.oid
    envelope = envelope.replace(sha256, sha512)
    said = certrep(ra, client, post(ra, client.pki_message(b"", ra.certificate, envelope=envelope)))
    assert (said.status, said.fail_info) == ("2", BAD_ALG)
    assert "UnwrapKey" not in ra.names()


def test_a_digest_that_is_not_spoken_is_answered_in_sha_256():
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(), ra.certificate)
    info = cms.ContentInfo.load(body)
    info["content"]["signer_infos"][0]["digest_algorithm"] = {"algorithm": "md5"}
    replaced = info.dump(force=True)
    said = certrep(ra, client, post(ra, replaced))
    assert (said.fail_info, said.digest) == (BAD_ALG, "sha256")


def test_an_envelope_for_somebody_else_fails_without_decryption():
    """S47."""
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(), self_signed(rsa_key("other")))
    assert certrep(ra, client, post(ra, body)).fail_info == BAD_MESSAGE_CHECK
    assert "UnwrapKey" not in ra.names()


@pytest.mark.parametrize("content", [None, b"", b"<html>", der.sequence(algorithms.ENVELOPED_DATA)])
def test_an_empty_envelope_is_a_bad_request(content: bytes | None):
    """S60."""
    ra, client = make_ra(), make_client()
    body = client.sign(content, client.attributes(content or b""))
    assert certrep(ra, client, post(ra, body)).fail_info == BAD_REQUEST
    assert "UnwrapKey" not in ra.names()


# After it


def test_nothing_tells_why_an_envelope_did_not_open():
    """S122: wrong padding of the key, a wrong key, wrong padding of the content, nonsense and a forged CSR: one answer."""
    ra, client = make_ra(), make_client()
    good = client.envelope(request(), ra.certificate)
    blocks = bytearray(good)
    blocks[-1] ^= 1
    weak = certification_request(rsa.generate_private_key(public_exponent=3, key_size=2048))
    answers = set()
    for body in (
        client.pki_message(request(), ra.certificate, content_key=bytes(16)),  # another key than that of the content
        client.pki_message(request(), ra.certificate, content_key=bytes(15)),  # of a wrong length
        client.pki_message(b"", ra.certificate, envelope=bytes(blocks)),
        client.pki_message(b"no request at all", ra.certificate),
        client.pki_message(b"", ra.certificate),
        client.pki_message(request()[:-1] + b"\0", ra.certificate),
        client.pki_message(request() + b"\0", ra.certificate),
        client.pki_message(raw_request(version=1), ra.certificate),  # verifies, were it a request at all
        client.pki_message(weak[:-1] + bytes((weak[-1] ^ 1,)), ra.certificate),  # bent on the way
    ):
        said = certrep(ra, client, post(ra, body))
        answers.add((said.status, said.fail_info, said.text))
    ((status, fail_info, _),) = answers
    assert (status, fail_info) == ("2", BAD_MESSAGE_CHECK)
    assert ra.names().count("UnwrapKey") == 9


@given(st.binary(min_size=16, max_size=16))
@settings(max_examples=20, deadline=None)
def test_a_wrong_content_key_always_has_the_same_answer(key: bytes):
    """S122."""
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(), ra.certificate, content_key=key)
    assert certrep(ra, client, post(ra, body)).fail_info == BAD_MESSAGE_CHECK


def _signed_again(csr: bytes, change) -> bytes:
    parsed = asn1_csr.CertificationRequest.load(csr)
    info = parsed["certification_request_info"]
    change(info)
    parsed["certification_request_info"] = info
    octets = info.dump(force=True)
    parsed["signature"] = rsa_key("client").sign(octets, padding.PKCS1v15(), hashes.SHA256())
    return parsed.dump(force=True)


def test_two_challenges_are_a_bad_request_that_says_so():
    """S64: the request was opened and verifies, so its fault may be named."""

    def twice(info) -> None:
        first = info["attributes"][0]
        info["attributes"] = [
            first.copy(),
            {"type": "challenge_password", "values": [asn1_x509.DirectoryString("utf8_string", "other")]},
        ]

    ra, client = make_ra(), make_client()
    said = certrep(ra, client, post(ra, client.pki_message(_signed_again(request(), twice), ra.certificate)))
    assert (said.status, said.fail_info) == ("2", BAD_REQUEST)
    assert said.text is not None
    assert "challengePassword" in said.text


def test_a_subject_that_cannot_be_judged_is_a_bad_request_that_says_so():
    key = rsa_key("client")
    name = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(x509.NameOID.COMMON_NAME, "a"), x509.NameAttribute(x509.NameOID.USER_ID, "b")]
            )
        ]
    )
    csr = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    ra, client = make_ra(), make_client()
    said = certrep(ra, client, post(ra, client.pki_message(csr, ra.certificate)))
    assert (said.status, said.fail_info) == ("2", BAD_REQUEST)


def test_a_weak_key_is_a_bad_algorithm():
    """D7: told as such, since the public key is no secret."""
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(key=rsa_key("short", 1024)), ra.certificate)
    said = certrep(ra, client, post(ra, body))
    assert (said.status, said.fail_info) == ("2", BAD_ALG)
    assert said.text is not None
    assert "1024" in said.text


# HTTP


@pytest.mark.parametrize("renewal", [True, False])
def test_the_capabilities_are_the_words_that_clients_compare(renewal: bool):
    """S18-S21, S24: explicit words beside SCEPStandard, Renewal where it is allowed, nothing that is refused."""
    reply = get(make_ra(), "operation=GetCACaps&message=", renewal=renewal)
    words = reply.body.decode().split("\n")
    expected = ["AES", "SHA-256", "SHA-384", "SHA-512", "SHA-1", "POSTPKIOperation", "SCEPStandard"]
    assert words == (["Renewal", *expected] if renewal else expected)
    assert (reply.status, reply.media_type) == (200, "text/plain")


@pytest.mark.parametrize("message", ["", "&message=", "&message=0", "&message=2", "&message=my-ca"])
def test_the_ra_comes_before_the_authorities(message: str):
    """S14, S27, S29, S33: whatever the message, also with an EC authority."""
    ra = make_ra()
    reply = get(ra, f"operation=GetCACert{message}")
    assert (reply.status, reply.media_type) == (200, "application/x-x509-ca-ra-cert")
    bag = cms.ContentInfo.load(reply.body, strict=True)["content"]["certificates"]
    assert [each.dump() for each in bag] == [each.public_bytes(Encoding.DER) for each in (ra.certificate, ra.ca)]


@pytest.mark.parametrize("query", ["operation=PKIOperation", "", "OPERATION=pkioperation&x=1", "message=ignored"])
def test_a_post_needs_no_operation(query: str):
    """S4, S5."""
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(), ra.certificate)
    assert certrep(ra, client, post(ra, body + b"\r\n\0", query=query)).status == "0"  # S40


@pytest.mark.parametrize("wrap", [False, True])
def test_the_same_message_by_get_has_the_same_answer(wrap: bool):
    """S94, S96, S102; 16 KiB of it (S100)."""
    ra, client = make_ra(), make_client()
    padded = certification_request(rsa_key("client"), challenge="x" * 10_000)
    octets = client.pki_message(padded, ra.certificate)
    text = base64.encodebytes(octets) if wrap else base64.b64encode(octets)
    assert len(text) > 16_384
    reply = get(ra, f"operation=PKIOperation&message={quote(text, safe='')}")
    assert certrep(ra, client, reply).status == "0"


@pytest.mark.parametrize(
    "query", ["operation=PKIOperation", "operation=PKIOperation&message=", "operation=PKIOperation&message=%"]
)
def test_a_get_without_a_message_is_a_bad_request(query: str):
    """S101."""
    reply = get(make_ra(), query)
    assert (reply.status, reply.media_type) == (400, "text/plain; charset=utf-8")


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"0\x80", bytes(300_000)])
def test_a_post_of_something_else_is_a_bad_request(body: bytes):
    """S52, S121: no CertRep can be built, and no key is used."""
    ra = make_ra()
    reply = post(ra, body)
    assert (reply.status, reply.media_type) == (400, "text/plain; charset=utf-8")
    assert ra.asked == []


@pytest.mark.parametrize("query", ["operation=GetNextCACert", "operation=Nonsense", ""])
def test_an_unknown_operation_is_a_bad_request(query: str):
    """S6, S37."""
    assert get(make_ra(), query).status == 400


def test_the_operations_that_read_are_not_for_post():
    assert post(make_ra(), b"", query="operation=GetCACaps").status == 400
    assert post(make_ra(), b"", query="operation=GetCACert").status == 400


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "post"])
def test_another_method_is_not_allowed(method: str):
    reply = play(operate(method, "", b"", nonce=NONCE, now=NOW, renewal=True), make_ra().answer)
    assert (reply.status, reply.headers) == (405, (("Allow", "GET, POST"),))


def test_the_dice_have_64_octets():
    with pytest.raises(AssertionError):
        play(operate("POST", "", b"", nonce=bytes(63), now=NOW, renewal=True), make_ra().answer)


def test_damage_never_gets_an_exception_out():
    """S55: of whole messages, and of what is inside their envelopes."""
    ra, client = make_ra(), make_client()
    body = client.pki_message(request(), ra.certificate)
    statuses = set()
    for damaged in mutations(b"operate", 800, [body]):
        statuses.add(post(ra, damaged).status)
    for damaged in mutations(b"inside", 150, [request()]):
        statuses.add(post(ra, client.pki_message(damaged, ra.certificate)).status)
    for damaged in mutations(b"envelope", 150, [client.envelope(request(), ra.certificate)]):
        statuses.add(post(ra, client.pki_message(b"", ra.certificate, envelope=damaged)).status)
    for damaged in mutations(b"query", 500, [b"operation=PKIOperation&message=" + base64.b64encode(body)]):
        statuses.add(get(ra, damaged.decode("latin-1")).status)
    assert statuses == {200, 400}
