"""SCEP through the front, on a real store (RFC 8894; requirements S…)."""

import base64
import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from asn1crypto import cms
from cryptography import x509

from gateway.domain.application import ScepSettings
from gateway.domain.certificate import Certificate
from gateway.fronts.limits import Limits
from gateway.fronts.rates import Allowed, Rates, rate
from gateway.fronts.scep import WINDOW, scep_routes
from gateway.outbound.signer import SignerBusy, SignerRefused
from gateway.store import audit, certificates, requests
from protocols.pkix.certificate import serial_of
from signer.contract.refusal import SignerRefusal
from tests.doubles.asgi import Answered
from tests.doubles.house import CHALLENGE, House, hashed, open_house, rsa_key
from tests.doubles.scep_client import (
    RENEWAL_REQ,
    CertRep,
    ScepClient,
    certification_request,
    self_signed,
)

BASE = "/scep/demo/device"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, scep_routes) as house:
        yield house


def client(**changes: object) -> ScepClient:
    key = rsa_key(1)
    return ScepClient(**{"key": key, "certificate": self_signed(key), **changes})


def ra(house: House) -> x509.Certificate:
    return x509.load_der_x509_certificate(house.issuer.ra_certificate)


def pkcs_req(house: House, who: ScepClient, challenge: str | None = CHALLENGE, name: str = "device-1") -> bytes:
    request = certification_request(who.key, name, challenge=challenge, dns=("device-1.example",))
    return who.pki_message(request, ra(house))


async def send(house: House, message: bytes, target: str = BASE, **how: object) -> Answered:
    return await house.ask("POST", f"{target}?operation=PKIOperation", message, **how)


def read(house: House, who: ScepClient, answer: Answered) -> CertRep:
    assert answer.status == 200, answer.text
    assert answer.header("Content-Type") == "application/x-pki-message"
    return who.read(answer.body, ra(house))


async def enroll(house: House, who: ScepClient, **how: object) -> bytes:
    rep = read(house, who, await send(house, pkcs_req(house, who), **how))
    assert rep.status == "0", rep.text
    return rep.certificates[0]


async def record(house: House, leaf: bytes) -> Certificate:
    fingerprint = hashlib.sha256(leaf).hexdigest()
    serial = f"{serial_of(leaf):x}"
    found = await house.store.read(lambda unit: certificates.find_by_sha256(unit, fingerprint, serial=serial))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "target", [BASE, f"{BASE}/", f"{BASE}/pkiclient.exe", f"{BASE}/PKICLIENT.EXE", f"{BASE}/cgi-bin/pkiclient.exe"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_any_suffix_is_as_good_as_none_over_http_and_https(house: House, target: str, scheme: str):
    """S1, S2, S9."""
    answer = await house.ask("GET", f"{target}?operation=GetCACaps", scheme=scheme)
    assert answer.status == 200
    assert b"POSTPKIOperation" in answer.body


async def test_the_ra_comes_first_then_the_authorities(house: House):
    """S27, S14: the media type without parameters."""
    answer = await house.ask("GET", f"{BASE}?operation=GetCACert&message=0")
    assert answer.header("Content-Type") == "application/x-x509-ca-ra-cert"
    # In this order, which DER's rule for a SET would change: clients take the first for the RA's.
    found = [each.chosen.dump() for each in cms.ContentInfo.load(answer.body)["content"]["certificates"]]
    assert found == [house.issuer.ra_certificate, house.issuer.certificate]


async def test_renewal_is_advertised_where_it_is_allowed(house: House):
    """S21."""
    assert b"Renewal" in (await house.ask("GET", f"{BASE}?operation=GetCACaps")).body
    await house.change(scep=ScepSettings(challenge_hash=hashed(CHALLENGE), allow_renewal=False))
    assert b"Renewal" not in (await house.ask("GET", f"{BASE}?operation=GetCACaps")).body


@pytest.mark.parametrize(
    "target", ["/scep/nobody/device", "/scep/demo/nothing", "/scep/demo%2fdevice/x", f"{BASE}/../x"]
)
async def test_what_does_not_exist_is_a_text(house: House, target: str):
    """S7."""
    answer = await house.ask("GET", f"{target}?operation=GetCACaps")
    assert answer.status == 404
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"


async def test_a_closed_door_looks_like_no_door(house: House):
    before = await house.ask("GET", "/scep/nobody/device?operation=GetCACaps")
    await house.change(scep=None)
    after = await house.ask("GET", f"{BASE}?operation=GetCACaps")
    assert (before.status, before.body) == (after.status, after.body) == (404, before.body)


async def test_the_right_challenge_enrolls(house: House):
    """S56, S86: leaf first, the issuer beside it."""
    who = client()
    rep = read(house, who, await send(house, pkcs_req(house, who)))
    assert rep.status == "0"
    leaf, issuer = rep.certificates
    assert issuer == house.issuer.certificate
    assert x509.load_der_x509_certificate(leaf).public_key() == who.key.public_key()
    found = await record(house, leaf)
    assert found.protocol == "scep"
    assert house.signer.signed[0].proof.kind == "scep-challenge"


@pytest.mark.parametrize(("include", "count"), [("none", 1), ("issuer", 2), ("chain", 2)])
async def test_what_stands_beside_the_leaf_is_the_pairs_choice(house: House, include: str, count: int):
    """S86: Cisco wants the issuer, Juniper refuses it."""
    await house.change(scep=ScepSettings(challenge_hash=hashed(CHALLENGE), include=include))
    who = client()
    assert len(read(house, who, await send(house, pkcs_req(house, who))).certificates) == count


@pytest.mark.parametrize("challenge", [None, "", "wrong", CHALLENGE.upper(), CHALLENGE + " "])
async def test_a_wrong_or_missing_challenge_fails_in_one_way(house: House, challenge: str | None):
    """S57, S17: HTTP 200, badRequest, nothing issued."""
    who = client()
    rep = read(house, who, await send(house, pkcs_req(house, who, challenge)))
    assert (rep.status, rep.fail_info) == ("2", "2")
    assert house.signer.signed == []


async def test_no_challenge_is_right_where_none_is_configured(house: House):
    await house.change(scep=ScepSettings(challenge_hash=None))
    who = client()
    for challenge in (CHALLENGE, ""):
        assert read(house, who, await send(house, pkcs_req(house, who, challenge))).status == "2"


async def test_guessing_challenges_is_locked_out(house: House):
    """S107."""
    who = client()
    for number in range(10):
        assert read(house, who, await send(house, pkcs_req(house, who, f"guess-{number}"))).status == "2"
    answer = await send(house, pkcs_req(house, who))
    assert answer.status == 429
    assert int(answer.header("Retry-After") or "") > 0
    await enroll(house, who, address="192.0.2.2")


async def test_a_challenge_never_reaches_the_log(house: House, caplog: pytest.LogCaptureFixture):
    """S113."""
    who = client()
    with caplog.at_level("DEBUG"):
        await enroll(house, who)
        await send(house, pkcs_req(house, who, "guess-guess"))
    assert CHALLENGE not in caplog.text
    assert "guess-guess" not in caplog.text


async def test_the_same_bytes_again_give_the_same_certificate(house: House):
    """S79, S83: a lost reply costs nobody a second certificate."""
    who = client()
    message = pkcs_req(house, who)
    first = read(house, who, await send(house, message))
    again = read(house, who, await send(house, message))
    assert first.certificates == again.certificates
    assert first.sender_nonce != again.sender_nonce
    assert len(house.signer.signed) == 1


async def test_concurrent_retransmissions_are_one_issuance(house: House):
    """S82."""
    who = client()
    message = pkcs_req(house, who)
    leaves: set[bytes] = set()

    async def once() -> None:
        leaves.add(read(house, who, await send(house, message)).certificates[0])

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(once)
    assert len(leaves) == 1
    assert len(house.signer.signed) == 1


async def test_another_request_in_the_same_transaction_is_another_transaction(house: House):
    """S80."""
    who = client()
    await enroll(house, who)
    rep = read(house, who, await send(house, pkcs_req(house, who, name="device-2")))
    assert rep.status == "0"
    assert len(house.signer.signed) == 2


async def test_the_same_request_long_after_is_a_new_certificate(house: House):
    """S81: with a static challenge an RSA client's request is the same, byte for byte, each time."""
    who = client()
    message = pkcs_req(house, who)
    first = read(house, who, await send(house, message)).certificates[0]
    house.now += WINDOW - dt.timedelta(minutes=1)
    assert read(house, who, await send(house, message)).certificates[0] == first
    house.now += dt.timedelta(minutes=2)
    assert read(house, who, await send(house, message)).certificates[0] != first
    assert len(house.signer.signed) == 2


async def test_the_window_does_not_break_where_the_clock_turns_it(house: House):
    """S79: a retransmission a second later, across the edge of two windows."""
    seconds = WINDOW.total_seconds()
    house.now = dt.datetime.fromtimestamp((house.now.timestamp() // seconds + 1) * seconds - 0.5, dt.UTC)
    who = client()
    message = pkcs_req(house, who)
    first = read(house, who, await send(house, message)).certificates[0]
    house.now += dt.timedelta(seconds=1)
    assert read(house, who, await send(house, message)).certificates[0] == first


async def test_nor_where_another_machine_s_clock_is_behind(house: House):
    """S79: the first machine's clock has turned the window already; the retransmission goes to one whose has not."""
    seconds = WINDOW.total_seconds()
    house.now = dt.datetime.fromtimestamp((house.now.timestamp() // seconds + 1) * seconds + 1, dt.UTC)
    who = client()
    message = pkcs_req(house, who)
    first = read(house, who, await send(house, message)).certificates[0]
    house.now -= dt.timedelta(seconds=3)
    assert read(house, who, await send(house, message)).certificates[0] == first
    assert len(house.signer.signed) == 1


async def test_a_certificate_of_this_pair_renews_without_a_challenge(house: House):
    """S65, S92: the answer is encrypted to the old key."""
    old = await enroll(house, client())
    who = client(certificate=x509.load_der_x509_certificate(old), transaction_id=b"transaction-2")
    request = certification_request(rsa_key(2), "device-1", dns=("device-1.example",))
    answer = await send(house, who.pki_message(request, ra(house), message_type=RENEWAL_REQ))
    rep = read(house, who, answer)
    assert rep.status == "0", rep.text
    before, after = await record(house, old), await record(house, rep.certificates[0])
    assert (after.renewed_from, before.renewed_by) == (before.id, after.id)
    assert house.signer.signed[-1].proof.kind == "scep-certificate"


async def renew(house: House, old: bytes, request: bytes, target: str = BASE) -> CertRep:
    who = client(certificate=x509.load_der_x509_certificate(old), transaction_id=b"transaction-2")
    message = who.pki_message(request, ra(house), message_type=RENEWAL_REQ)
    return read(house, who, await send(house, message, target))


@pytest.mark.parametrize(
    ("name", "dns"),
    [
        ("device-2", ("device-1.example",)),
        ("device-1", ("device-1.example", "more.example")),
        ("device-1", ()),
    ],
)
async def test_a_renewal_for_other_names_fails(house: House, name: str, dns: tuple[str, ...]):
    """S67: no challenge vouches for new names."""
    old = await enroll(house, client())
    rep = await renew(house, old, certification_request(rsa_key(2), name, dns=dns))
    assert (rep.status, rep.fail_info) == ("2", "2")
    assert len(house.signer.signed) == 1


SAME = ("device-1", ("device-1.example",))


async def test_a_renewal_from_another_pair_fails(house: House):
    """S67, D8."""
    old = await enroll(house, client())
    rep = await renew(house, old, certification_request(rsa_key(2), SAME[0], dns=SAME[1]), "/scep/other/device")
    assert rep.status == "2"


async def test_a_revoked_certificate_does_not_renew(house: House):
    """S67."""
    old = await enroll(house, client())
    found = await record(house, old)
    await house.store.write(lambda unit: certificates.revoke(unit, found.id, reason=1, at=house.now))
    rep = await renew(house, old, certification_request(rsa_key(2), SAME[0], dns=SAME[1]))
    assert rep.status == "2"


async def test_an_expired_certificate_does_not_renew(house: House):
    """S67."""
    old = await enroll(house, client())
    house.now = (await record(house, old)).not_after + dt.timedelta(seconds=1)
    rep = await renew(house, old, certification_request(rsa_key(2), SAME[0], dns=SAME[1]))
    assert rep.status == "2"


async def test_a_certificate_that_nobody_here_issued_does_not_renew(house: House):
    """S66, S67."""
    stranger = self_signed(rsa_key(1), "stranger")
    who = client(certificate=stranger)
    request = certification_request(rsa_key(2), "stranger")
    answer = await send(house, who.pki_message(request, ra(house), message_type=RENEWAL_REQ))
    assert read(house, who, answer).status == "2"


async def test_renewal_can_be_switched_off(house: House):
    old = await enroll(house, client())
    await house.change(scep=ScepSettings(challenge_hash=hashed(CHALLENGE), allow_renewal=False))
    rep = await renew(house, old, certification_request(rsa_key(2), SAME[0], dns=SAME[1]))
    assert rep.status == "2"


async def test_a_get_decides_as_a_post_does(house: House):
    """S94, S95, S102."""
    who = client()
    message = pkcs_req(house, who)
    first = read(house, who, await send(house, message)).certificates[0]
    encoded = base64.b64encode(message).decode()
    for form in (quote(encoded, safe=""), encoded.replace("=", "%3D")):
        answer = await house.ask("GET", f"{BASE}?operation=PKIOperation&message={form}", scheme="http")
        assert read(house, who, answer).certificates[0] == first


@pytest.mark.parametrize("message_type", [0, 3, 18, 20, 21, 22, 23, 255])
async def test_no_other_message_type_issues(house: House, message_type: int):
    """S58, S59."""
    who = client()
    request = certification_request(who.key, challenge=CHALLENGE)
    answer = await send(house, who.pki_message(request, ra(house), message_type=message_type))
    assert answer.status in {200, 400}
    assert house.signer.signed == []


async def test_a_message_over_the_cap_is_refused_before_it_is_read(house: House):
    """S12."""
    for body in (b"\x30" * (256 * 1024 + 1), [b"\x30" * 100_000] * 3):
        answer = await house.ask("POST", f"{BASE}?operation=PKIOperation", body)
        assert answer.status == 413
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"


async def test_a_chunked_message_is_accepted(house: House):
    """S11."""
    who = client()
    message = pkcs_req(house, who)
    answer = await house.ask("POST", f"{BASE}?operation=PKIOperation", [message[:100], message[100:]])
    assert read(house, who, answer).status == "0"


@pytest.mark.parametrize(("body", "query"), [(b"junk", "?operation=PKIOperation"), (b"", ""), (b"x", "?operation=X")])
async def test_garbage_is_a_400_of_one_line(house: House, body: bytes, query: str):
    """S6, S101."""
    answer = await house.ask("POST", BASE + query, body)
    assert answer.status == 400
    assert answer.text.count("\n") == 1


async def test_another_method_is_told_the_right_ones(house: House):
    answer = await house.ask("DELETE", BASE)
    assert (answer.status, answer.header("Allow")) == (405, "GET, POST")


async def test_a_busy_signer_is_a_503_and_the_same_message_succeeds_later(house: House):
    """S120."""
    who = client()
    message = pkcs_req(house, who)
    house.signer.crash = SignerBusy(7)
    answer = await send(house, message)
    assert (answer.status, answer.header("Retry-After")) == (503, "7")
    house.signer.crash = None
    assert read(house, who, await send(house, message)).status == "0"


async def test_a_key_that_the_ra_cannot_unwrap_is_answered_like_a_wrong_one(house: House):
    """S122."""
    who = client()
    message = pkcs_req(house, who)
    wrong_key = who.pki_message(
        certification_request(who.key, challenge=CHALLENGE), ra(house), content_key=b"\x01" * 16
    )
    wrong = read(house, who, await send(house, wrong_key))
    house.signer.crash = SignerRefused(SignerRefusal.UNWRAP, "not for this RA")
    unwrapped = read(house, who, await send(house, message))
    assert (wrong.status, wrong.fail_info, wrong.text) == (unwrapped.status, unwrapped.fail_info, unwrapped.text)
    assert wrong.fail_info == "1"


async def test_an_unexpected_failure_tells_nothing(house: House, caplog: pytest.LogCaptureFixture):
    house.signer.crash = ZeroDivisionError("secret detail")
    answer = await send(house, pkcs_req(house, client()))
    assert answer.status == 500
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text


async def test_wrong_challenges_are_audited_and_are_no_requests(house: House):
    """D17."""
    who = client()
    message = pkcs_req(house, who, "wrong")
    for number in range(12):
        await send(house, message, address=f"198.51.100.{number}")
    entries = await house.store.read(audit.entries)
    assert [each.event.action for each in entries].count("credential.check") == 12
    assert not any(CHALLENGE in each.event.detail or each.event.detail == "wrong" for each in entries)
    found, count = await house.store.read(
        lambda unit: requests.search(
            unit, application_ids=None, profile_id=None, status=None, search=None, limit=5, offset=0
        )
    )
    assert (found, count) == ([], 0)


async def test_a_message_whose_signature_is_wrong_counts_as_ten(house: House):
    """P16: it is answered 200, and costs us two signatures; its sender nothing."""
    house.set_front(limits=Limits(rates=Rates(allowed=Allowed(address=rate("1/h burst 15")))))
    who = client()
    message = pkcs_req(house, who)
    forged = message[:-1] + bytes([message[-1] ^ 1])
    assert read(house, who, await send(house, forged)).fail_info == "1"
    assert read(house, who, await send(house, forged)).fail_info == "1"
    refused = await send(house, message)
    assert (refused.status, bool(refused.header("Retry-After"))) == (503, True)


async def test_while_there_is_too_much_to_do_no_failure_is_signed(house: House):
    """S120: 503 without the RA's key; whoever is right is answered."""
    house.set_front(limits=Limits(rates=Rates(pressed=lambda: True)))
    who = client()
    message = pkcs_req(house, who)
    refused = await send(house, message[:-1] + bytes([message[-1] ^ 1]))
    assert (refused.status, bool(refused.header("Retry-After"))) == (503, True)
    assert read(house, who, await send(house, message)).status == "0"
