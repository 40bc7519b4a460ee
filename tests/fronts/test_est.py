"""EST through the front, on a real store (RFC 7030, RFC 8951; requirements E…)."""

import base64
import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from gateway.actions.authenticate import Guesses
from gateway.actions.throttle import Throttle
from gateway.domain.application import EstSettings
from gateway.domain.certificate import Certificate
from gateway.fronts import est
from gateway.fronts.est import est_routes
from gateway.fronts.limits import Limits
from gateway.outbound.signer import SignerBusy
from gateway.store import audit, certificates
from protocols.pkix.certificate import serial_of
from tests.doubles.asgi import Answered
from tests.doubles.house import PASSPHRASE, House, open_house
from tests.doubles.requests import csr
from tests.doubles.shut import Shut

BASE = "/est/demo/device/"
TYPE = {"Content-Type": "application/pkcs10"}


def basic(user: str, passphrase: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{passphrase}".encode()).decode()}


WITH_PASSPHRASE = {**TYPE, **basic("dev1", PASSPHRASE)}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, est_routes) as house:
        yield house


def certificates_in(answer: Answered) -> list[bytes]:
    assert answer.status == 200, answer.text
    found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    return [each.public_bytes(Encoding.DER) for each in found]


async def enroll(house: House, request: bytes | None = None, **how: object) -> bytes:
    body = base64.b64encode(request or csr())
    (leaf,) = certificates_in(await house.ask("POST", BASE + "simpleenroll", body, headers=WITH_PASSPHRASE, **how))
    return leaf


async def record(house: House, leaf: bytes) -> Certificate:
    fingerprint = hashlib.sha256(leaf).hexdigest()
    serial = f"{serial_of(leaf):x}"
    found = await house.store.read(lambda unit: certificates.find_by_sha256(unit, fingerprint, serial=serial))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "target",
    [
        "/est/demo/device/cacerts",
        "/est/demo/device/cacerts/",
        "/est/demo/device/.well-known/est/cacerts",
        "/est/demo/device/.well-known/est/cacerts/",
        "/.well-known/est/demo.device/cacerts",
        "/.well-known/est/demo.device/cacerts/",
        "/.well-known/est/d%65mo.device/cacerts",
    ],
)
async def test_cacerts_are_the_same_at_every_form_of_the_address(house: House, target: str):
    """E2, E3, E6, E7, E24, E26: no credentials, no redirect."""
    assert certificates_in(await house.ask("GET", target)) == list(house.pair.authority.chain)


async def test_cacerts_are_given_whatever_credentials_are_sent(house: House):
    """E26."""
    answer = await house.ask("GET", BASE + "cacerts", headers={"Authorization": "Basic !!"}, certificate=b"junk")
    assert answer.status == 200


async def test_cacerts_follow_the_catalogue_at_once(house: House):
    """E27, E106: what is kept ready is dropped with the catalogue that it came from."""
    before = await house.ask("GET", BASE + "cacerts")
    assert (await house.ask("GET", BASE + "cacerts")).body == before.body
    await house.change(est=EstSettings(wrap=64))
    after = await house.ask("GET", BASE + "cacerts")
    assert b"\n" in after.body
    assert b"\n" not in before.body


async def test_an_address_means_what_the_catalogue_says_now(house: House):
    """E4, E7: what was found once is looked up again in a new catalogue, and for each spelling by itself."""
    for _ in range(2):
        assert (await house.ask("GET", BASE + "csrattrs")).status == 204
        assert (await house.ask("GET", "/est/demo/device/x/../csrattrs")).status == 404
        assert (await house.ask("GET", BASE + "csrattr%73")).status == 204
        assert (await house.ask("GET", BASE + "csrattr%2573")).status == 404
    await house.change(est=None)
    assert (await house.ask("GET", BASE + "csrattrs")).status == 404
    await house.change(est=EstSettings())
    assert (await house.ask("GET", BASE + "csrattrs")).status == 204


async def test_no_more_addresses_are_kept_than_there_is_room_for(house: House, monkeypatch: pytest.MonkeyPatch):
    """P16: a stranger can name operations without end."""
    monkeypatch.setattr(est, "MOST_FOUND", 3)
    endpoint = est.Est(house.front)
    scope = {"raw_path": b"", "path_params": {"application": "demo", "profile": "device"}}
    for number in range(9):
        named = {**scope, "path": f"/{number}", "path_params": {**scope["path_params"], "rest": f"{number}"}}
        assert endpoint._find(named) == (house.pair, f"{number}")
        assert len(endpoint._found) <= 3


async def test_a_long_address_is_found_and_not_kept(house: House):
    """P16: a target may have 64 KiB, and a thousand of those would be all the memory that a gateway may use (P12)."""
    endpoint = est.Est(house.front)
    for long in ("x" * 60_000, "y" * 60_000):
        path = f"/est/demo/device/{long}"
        scope = {"path": path, "path_params": {"application": "demo", "profile": "device", "rest": long}}
        for raw in (path.encode(), b""):
            assert endpoint._find({**scope, "raw_path": raw}) == (house.pair, long)
    assert not endpoint._found


async def test_head_says_what_get_says_without_the_body(house: House):
    """E8."""
    get, head = await house.ask("GET", BASE + "cacerts"), await house.ask("HEAD", BASE + "cacerts")
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")


@pytest.mark.parametrize(
    "target",
    [
        "/est/nobody/device/cacerts",
        "/est/demo/nothing/cacerts",
        "/est/demo/device/nothing",
        "/est/demo/device/simpleenroll/nothing",
        "/est/demo/device/.well-known/cacerts",
        "/est/demo/device//",
        "/est/demo/device/",
        "/.well-known/est/cacerts",
        "/.well-known/est/nobody/cacerts",
        "/.well-known/est/demo.device/x/cacerts",
        "/est/demo/device/../device/cacerts",
        "/est/demo%2fdevice/x/cacerts",
        "/est/demo/device/cacerts%00",
        "/.well-known/est/demo%2edevice/%2e%2e/cacerts",
        "/est/demo/device/%2563acerts",
    ],
)
async def test_what_does_not_exist_is_a_text_without_a_challenge_or_a_redirect(house: House, target: str):
    """E5, E7."""
    for method in ("GET", "POST"):
        answer = await house.ask(method, target, headers=WITH_PASSPHRASE if method == "POST" else None)
        assert answer.status == 404
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"
        assert answer.header("WWW-Authenticate") is None
        assert answer.header("Location") is None


async def test_a_closed_door_looks_like_no_door(house: House):
    open_address = await house.ask("GET", "/est/nobody/device/cacerts")
    await house.change(est=None)
    answer = await house.ask("GET", BASE + "cacerts")
    assert (answer.status, answer.body, answer.headers) == (404, open_address.body, open_address.headers)


async def test_over_plain_http_nothing_is_answered_and_nobody_is_asked_for_a_passphrase(house: House):
    """E9."""
    for target in (BASE + "cacerts", BASE + "simpleenroll", "/est/nobody/device/cacerts"):
        answer = await house.ask("POST", target, csr(), headers=TYPE, scheme="http")
        assert answer.status == 403
        assert answer.header("WWW-Authenticate") is None


async def test_a_passphrase_enrolls_and_the_inventory_knows_how(house: House):
    """E40, E41, D8."""
    request = csr()
    leaf = await enroll(house, request)
    found = await record(house, leaf)
    assert (found.protocol, found.application_id, found.renewed_from) == ("est", "application", None)
    (plan,) = house.signer.signed
    assert (plan.proof.kind, plan.proof.subject) == ("est-passphrase", "dev1")
    assert plan.proof.request_hash == hashlib.sha256(request).digest()


async def test_headers_are_few_short_and_spelled_as_small_clients_compare_them(house: House):
    """E15, E16, E21."""
    body = base64.b64encode(csr())
    answer = await house.ask("POST", BASE + "simpleenroll", body, headers=WITH_PASSPHRASE)
    names = [name for name, _ in answer.headers]
    assert names.count("Content-Type") == names.count("Content-Length") == 1
    assert answer.header("Content-Type") == "application/pkcs7-mime; smime-type=certs-only"
    assert "Content-Transfer-Encoding" in names
    assert answer.header("Content-Length") == str(len(answer.body))
    assert answer.header("Cache-Control") == "no-store"
    assert names.count("Cache-Control") == 1
    assert len(answer.headers) <= 15
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers) <= 1000


@pytest.mark.parametrize("credentials", [{}, basic("dev1", "wrong"), {"Authorization": "Bearer x"}])
async def test_without_the_right_passphrase_the_answer_asks_for_it(house: House, credentials: dict[str, str]):
    """E90."""
    answer = await house.ask("POST", BASE + "simpleenroll", csr(), headers={**TYPE, **credentials})
    assert answer.status == 401
    challenges = [value for name, value in answer.headers if name == "WWW-Authenticate"]
    assert challenges
    assert challenges[0].startswith('Basic realm="')
    assert house.signer.signed == []


async def test_guessing_is_locked_out_for_the_address_and_for_nobody_else(house: House):
    """E90: after ten wrong ones even the right one has to wait, or a guess could be told from its answer."""
    body = base64.b64encode(csr())
    for number in range(10):
        headers = {**TYPE, **basic("dev1", f"guess {number}")}
        assert (await house.ask("POST", BASE + "simpleenroll", body, headers=headers)).status == 401
    answer = await house.ask("POST", BASE + "simpleenroll", body, headers=WITH_PASSPHRASE)
    assert answer.status == 429
    assert 0 < int(answer.header("Retry-After") or "") <= 60
    await enroll(house, address="192.0.2.2")
    house.now += dt.timedelta(seconds=int(answer.header("Retry-After") or ""))
    await enroll(house)


async def test_guesses_that_come_all_at_once_are_counted_one_by_one(house: House):
    """E90: none is checked before the one ahead of it was counted."""
    statuses: list[int] = []

    async def guess(number: int) -> None:
        headers = {**TYPE, **basic("dev1", f"guess {number}")}
        statuses.append((await house.ask("POST", BASE + "simpleenroll", csr(), headers=headers)).status)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(guess, number)
    assert sorted(statuses)[:10] == [401] * 10
    # Those who wait hear that they guessed too often; for more than a few it is too much at a time, checked or not.
    assert set(statuses[10:]) <= {401, 429, 503}
    assert len(statuses) == 40
    assert statuses.count(401) == 10


async def test_a_flood_of_wrong_credentials_does_not_fill_the_disk(house: House):
    """D17 asks for an event; the disk asks for an end of them: a burst, then one a second."""
    house.set_front(limits=Limits(guesses=Guesses(audited=Throttle(burst=3, interval=1.0, capacity=1))))
    headers = {**TYPE, **basic("dev1", "wrong-wrong")}
    for number in range(6):
        await house.ask("POST", BASE + "simpleenroll", csr(), headers=headers, address=f"192.0.2.{number}")
    house.now += dt.timedelta(seconds=1)
    await house.ask("POST", BASE + "simpleenroll", csr(), headers=headers, address="192.0.2.99")
    entries = await house.store.read(audit.entries)
    sources = [each.event.source for each in entries if each.event.action == "credential.check"]
    assert sources == ["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.99"]
    assert "wrong-wrong" not in str(entries)


async def test_a_passphrase_that_is_not_configured_is_never_right(house: House):
    await house.change(est=EstSettings(passphrase_hash=None))
    for passphrase in ("", PASSPHRASE):
        headers = {**TYPE, **basic("dev1", passphrase)}
        assert (await house.ask("POST", BASE + "simpleenroll", csr(), headers=headers)).status == 401


async def test_the_passphrase_of_the_right_pair_is_asked_for(house: House):
    """Each pair has its own settings: D8."""
    await house.change(est=EstSettings(passphrase_hash=None))
    body = base64.b64encode(csr())
    ours = await house.ask("POST", "/est/other/device/simpleenroll", body, headers=WITH_PASSPHRASE)
    assert ours.status == 200
    theirs = await house.ask("POST", BASE + "simpleenroll", body, headers=WITH_PASSPHRASE)
    assert theirs.status == 401


async def test_a_certificate_of_this_pair_enrolls_and_renews(house: House):
    """E60, E63, E69: the new certificate knows the old one and the old one the new."""
    old = await enroll(house)
    body = base64.b64encode(csr())
    (another,) = certificates_in(await house.ask("POST", BASE + "simpleenroll", body, headers=TYPE, certificate=old))
    assert (await record(house, another)).renewed_from is None
    (new,) = certificates_in(await house.ask("POST", BASE + "simplereenroll", body, headers=TYPE, certificate=old))
    before, after = await record(house, old), await record(house, new)
    assert after.renewed_from == before.id
    assert before.renewed_by == after.id
    assert house.signer.signed[-1].proof.kind == "est-certificate"
    assert x509.load_der_x509_certificate(new).subject == x509.load_der_x509_certificate(old).subject


@pytest.mark.parametrize("request_", [csr("dev2"), csr(dns=("dev1.example", "more.example")), csr(dns=())])
async def test_other_names_are_no_renewal(house: House, request_: bytes):
    """E63, E64: neither more names nor fewer."""
    old = await enroll(house)
    answer = await house.ask("POST", BASE + "simplereenroll", request_, headers=TYPE, certificate=old)
    assert answer.status == 403
    assert len(house.signer.signed) == 1


async def test_a_renewal_without_a_certificate_is_refused_though_the_passphrase_is_right(house: House):
    """E59."""
    answer = await house.ask("POST", BASE + "simplereenroll", csr(), headers=WITH_PASSPHRASE)
    assert answer.status == 403


async def test_a_certificate_of_another_pair_does_not_renew_here(house: House):
    """E68, D8."""
    old = await enroll(house)
    answer = await house.ask("POST", "/est/other/device/simplereenroll", csr(), headers=TYPE, certificate=old)
    assert answer.status == 403


async def test_a_certificate_that_is_not_ours_is_refused(house: House):
    """E60."""
    stranger = house.issuer.certificate
    answer = await house.ask("POST", BASE + "simplereenroll", csr(), headers=TYPE, certificate=stranger)
    assert answer.status == 403


async def test_an_expired_certificate_is_refused(house: House):
    """E61."""
    old = await enroll(house)
    house.now = (await record(house, old)).not_after + dt.timedelta(seconds=1)
    answer = await house.ask("POST", BASE + "simplereenroll", csr(), headers=TYPE, certificate=old)
    assert answer.status == 403


async def test_a_revoked_certificate_is_refused_at_once(house: House):
    """E62: also where only a passphrase was missing."""
    old = await enroll(house)
    found = await record(house, old)
    await house.store.write(lambda unit: certificates.revoke(unit, found.id, reason=1, at=house.now))
    for operation, status in (("simplereenroll", 403), ("simpleenroll", 401)):
        answer = await house.ask("POST", BASE + operation, csr(), headers=TYPE, certificate=old)
        assert answer.status == status
    assert len(house.signer.signed) == 1


async def test_a_certificate_that_is_not_valid_yet_is_refused(house: House):
    old = await enroll(house)
    house.now = (await record(house, old)).not_before - dt.timedelta(seconds=1)
    answer = await house.ask("POST", BASE + "simplereenroll", csr(), headers=TYPE, certificate=old)
    assert answer.status == 403


async def test_an_imported_certificate_vouches_for_nobody(house: House):
    """E60: somebody put it into the inventory; that is no proof that its holder was ever enrolled here."""
    request = x509.load_der_x509_csr(csr())
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    row = await record(house, await enroll(house))
    imported = msgspec.structs.replace(row, id="imported", serial="77", der=spki, source="imported", request_id=None)
    imported = msgspec.structs.replace(
        imported, sha256=hashlib.sha256(spki).hexdigest(), sha1=hashlib.sha1(spki).hexdigest()
    )
    await house.store.write(lambda unit: certificates.record(unit, imported))
    answer = await house.ask("POST", BASE + "simplereenroll", csr(), headers=TYPE, certificate=spki)
    assert answer.status == 403


@pytest.mark.parametrize("length", [64 * 1024 + 1, 1024 * 1024])
async def test_a_body_over_the_cap_is_refused(house: House, length: int):
    """E20."""
    for body in (b"A" * length, [b"A" * 1000] * (length // 1000 + 5)):
        answer = await house.ask("POST", BASE + "simpleenroll", body, headers=WITH_PASSPHRASE)
        assert answer.status == 413
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"
        assert answer.header("Connection") == "close"


@pytest.mark.parametrize(("method", "operation"), [("POST", "cacerts"), ("GET", "simpleenroll"), ("PUT", "csrattrs")])
async def test_a_wrong_method_is_told_the_right_one(house: House, method: str, operation: str):
    """E8."""
    answer = await house.ask(method, BASE + operation, headers=WITH_PASSPHRASE)
    assert answer.status == 405
    assert answer.header("Allow")
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(("headers", "status"), [(TYPE, 400), ({"Content-Type": "text/html"}, 415), ({}, 415)])
async def test_garbage_of_the_right_and_of_the_wrong_type(house: House, headers: dict[str, str], status: int):
    """E37, E38: one line of text."""
    headers = {**headers, **basic("dev1", PASSPHRASE)}
    answer = await house.ask("POST", BASE + "simpleenroll", b"bm90IGEgY3Ny", headers=headers)
    assert answer.status == status
    assert answer.text.count("\n") == 1
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"


async def test_a_busy_signer_is_a_503_that_says_when_to_come_back(house: House):
    """E48."""
    house.signer.crash = SignerBusy(7)
    answer = await house.ask("POST", BASE + "simpleenroll", csr(), headers=WITH_PASSPHRASE)
    assert (answer.status, answer.header("Retry-After")) == (503, "7")


async def test_an_unexpected_failure_is_a_text_without_detail_and_a_log_line(
    house: House, caplog: pytest.LogCaptureFixture
):
    house.signer.crash = ZeroDivisionError("secret detail")
    answer = await house.ask("POST", BASE + "simpleenroll", csr(), headers=WITH_PASSPHRASE)
    assert answer.status == 500
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert "secret" not in answer.text
    assert "Zero" not in answer.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_passphrase_never_reaches_the_log(house: House, caplog: pytest.LogCaptureFixture):
    """S113, D17."""
    with caplog.at_level("DEBUG"):
        await house.ask("POST", BASE + "simpleenroll", csr(), headers={**TYPE, **basic("dev1", "guess-guess")})
        await enroll(house)
    assert PASSPHRASE not in caplog.text
    assert "guess-guess" not in caplog.text


async def test_load_can_be_shed_before_anything_is_read(house: House):
    """E107."""
    house.set_front(limits=Limits(admission=Shut(3)))
    answer = await house.ask("POST", BASE + "simpleenroll", csr(), headers=WITH_PASSPHRASE)
    assert (answer.status, answer.header("Retry-After")) == (503, "3")


async def test_a_client_that_goes_away_in_its_body_gets_no_answer(house: House):
    answer = await house.ask("POST", BASE + "simpleenroll", [b"MII"], headers=WITH_PASSPHRASE, disconnect=True)
    assert answer.status == 0
