"""OCSP over HTTP (RFC 6960, appendix A; RFC 5019, 5 and 6; RFC 8954; D19)."""

import base64
import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from starlette.routing import Route, Router

from gateway.actions.enroll import enroll
from gateway.actions.revoke import Asker, revoke
from gateway.actions.vouch import AHEAD, LIFETIME, MEMORY, UNKNOWN_LIFETIME, Statuses, Vouched, refresh
from gateway.domain.authority import AuthorityStatus
from gateway.domain.issuance import Issued, Plan
from gateway.domain.refusal import Refusal
from gateway.domain.request import EnrollmentRequest, Proof, ProofKind, Protocol, San, SanType
from gateway.domain.revocation import GOOD, RevocationReason, SerialKind, SerialState
from gateway.fronts import ocsp as front_of_ocsp
from gateway.fronts.limits import Limits
from gateway.fronts.ocsp import KNOWN, Ocsp, ocsp_routes
from gateway.jobs.vouching import keep_vouched
from gateway.outbound.signer import SignerBusy, SignerLost, SignerRefused, SignerUnreachable
from gateway.store import catalogue, certificates
from gateway.store.unit import StoreUnavailable
from protocols.pkix.ocsp import read_request
from signer.contract.refusal import SignerRefusal
from tests.doubles.asgi import Answered
from tests.doubles.house import House, open_house
from tests.doubles.issuer import Issuer, public_key
from tests.doubles.shut import Shut

Status = ocsp.OCSPResponseStatus
Kind = ocsp.OCSPCertStatus


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, ocsp_routes) as house:
        house.set_front(statuses=Statuses(memory=0.0))  # what is revoked here is asked about at once
        yield house


async def issued(house: House) -> Issued:
    key = public_key()
    proof = Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "dev1", hashlib.sha256(key.spki).digest())
    request = EnrollmentRequest(proof=proof, key=key, sans=(San(SanType.DNS_NAME, "a.example"),))
    made = await enroll(house.resources, house.pair, request)
    assert isinstance(made, Issued)
    return made


def request(house: House, serial: int, *, nonce: bytes | None = None, issuer: Issuer | None = None) -> bytes:
    of = x509.load_der_x509_certificate((issuer or house.issuer).certificate)
    hashed = ocsp.OCSPRequestBuilder().add_certificate(of, of, hashes.SHA1()).build()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        hashed.issuer_name_hash, hashed.issuer_key_hash, serial, hashes.SHA1()
    )
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def several(*requests: bytes) -> bytes:
    """Requests about one certificate each, joined: OCSPRequest { TBSRequest { SEQUENCE OF Request } }."""
    inner = b"".join(each[6:] for each in requests)
    assert all(each[0] == each[2] == each[4] == 0x30 for each in requests)
    for _ in range(3):
        length = len(inner)
        head = bytes((0x30, length)) if length < 128 else bytes((0x30, 0x82)) + length.to_bytes(2, "big")
        if 128 <= length < 256:
            head = bytes((0x30, 0x81, length))
        inner = head + inner
    return inner


async def post(house: House, body: bytes, **how: object) -> Answered:
    return await house.ask("POST", "/ocsp/test-root", body, scheme="http", **how)


def path(body: bytes) -> str:
    return "/ocsp/test-root/" + quote(base64.b64encode(body).decode(), safe="")


async def get(house: House, body: bytes, **how: object) -> Answered:
    return await house.ask("GET", path(body), scheme="http", **how)


def read(answer: Answered, status: Status = Status.SUCCESSFUL) -> ocsp.OCSPResponse:
    assert answer.status == 200, answer.text
    assert answer.header("Content-Type") == "application/ocsp-response"
    made = ocsp.load_der_ocsp_response(answer.body)
    assert made.response_status is status
    return made


@pytest.mark.parametrize("ask", [post, get])
async def test_a_certificate_that_was_issued_is_good(house: House, ask):
    serial = int((await issued(house)).serial, 16)
    made = read(await ask(house, request(house, serial)))
    assert (made.certificate_status, made.serial_number) == (Kind.GOOD, serial)
    assert made.this_update_utc <= house.now < made.next_update_utc
    [responder] = made.certificates
    responder.verify_directly_issued_by(x509.load_der_x509_certificate(house.issuer.certificate))


@pytest.mark.parametrize("safe", ["", "/", "/+="])
async def test_a_path_is_understood_however_its_client_encodes(house: House, safe: str):
    """RFC 6960, A.1: slashes and plus signs of base64 stand in paths as they are."""
    for serial in range(1, 60):
        body = request(house, 0x7BEFBEFBEFBEFBE0 + serial)
        target = "/ocsp/test-root/" + quote(base64.b64encode(body).decode(), safe=safe)
        assert read(await house.ask("GET", target)).serial_number == 0x7BEFBEFBEFBEFBE0 + serial


async def test_a_revocation_is_told_at_once_although_the_good_answer_is_kept(house: House):
    """D19."""
    made = await issued(house)
    body = request(house, int(made.serial, 16))
    assert read(await get(house, body)).certificate_status is Kind.GOOD
    when = house.now - dt.timedelta(seconds=7)
    await house.store.write(lambda unit: certificates.revoke(unit, made.certificate_id, reason=4, at=when))
    told = read(await get(house, body))
    assert (told.certificate_status, told.revocation_reason) == (Kind.REVOKED, x509.ReasonFlags.superseded)
    assert told.revocation_time_utc == when


async def test_a_hold_that_is_released_is_good_again(house: House):
    """RFC 5280, 5.3.1: a hold ends; D19."""
    made = await issued(house)
    body = request(house, int(made.serial, 16))
    for reason, status in (
        (RevocationReason.CERTIFICATE_HOLD, Kind.REVOKED),
        (RevocationReason.REMOVE_FROM_CRL, Kind.GOOD),
        (RevocationReason.CERTIFICATE_HOLD, Kind.REVOKED),
        (RevocationReason.KEY_COMPROMISE, Kind.REVOKED),
    ):
        await revoke(house.resources, house.front.publications, made.certificate_id, reason, Asker("operator"))
        told = read(await get(house, body))
        assert told.certificate_status is status
        if status is Kind.REVOKED:
            assert told.revocation_reason is x509.ReasonFlags(reason.value)


async def test_an_authority_that_has_a_successor_answers_for_what_it_issued(house: House):
    serial = int((await issued(house)).serial, 16)
    house.pair = replace(house.pair, authority=replace(house.pair.authority, successor_id="next"))
    next_one = replace(house.pair.authority, id="next", name="test-root-g2", successor_id=None)
    await house.store.write(lambda unit: catalogue.save_authority(unit, next_one))
    await house.save(house.pair)
    assert read(await get(house, request(house, serial))).certificate_status is Kind.GOOD


async def test_an_expired_certificate_stays_what_it_was(house: House):
    made = await issued(house)
    house.now += dt.timedelta(days=800)
    assert read(await get(house, request(house, int(made.serial, 16)))).certificate_status is Kind.GOOD


async def test_a_serial_that_may_exist_is_unknown(house: House):
    """A worker that died with the ask may have signed: nobody may call that good."""
    serials: list[int] = []

    async def lost(plan: Plan, pair: object, *, ticket: bytes) -> bytes:
        serials.append(plan.serial)
        asked.append(await kind_of(plan.serial))
        raise SignerLost("died")

    async def kind_of(serial: int) -> Kind:
        return read(await get(house, request(house, serial))).certificate_status

    asked: list[Kind] = []
    house.signer.issue = lost
    with pytest.raises(Refusal):
        await issued(house)
    assert serials
    assert asked == [Kind.UNKNOWN] * len(serials)  # reserved
    assert [await kind_of(each) for each in serials] == [Kind.UNKNOWN] * len(serials)  # burnt


async def test_several_are_answered_together_and_those_of_others_are_unknown(house: House):
    """RFC 6960, 2.2 and 4.2.1."""
    serial = int((await issued(house)).serial, 16)
    other = Issuer("Other")
    body = several(request(house, serial), request(house, serial, issuer=other), request(house, 99))
    made = list(read(await post(house, body)).responses)
    assert [each.certificate_status for each in made] == [Kind.GOOD, Kind.UNKNOWN, Kind.UNKNOWN]
    assert made[1].issuer_key_hash != made[0].issuer_key_hash


async def test_a_nonce_comes_back_and_the_answer_is_for_nobody_else(house: House):
    """RFC 8954, 2.1."""
    serial = int((await issued(house)).serial, 16)
    for nonce in (b"1" * 16, b"2" * 32):
        answer = await post(house, request(house, serial, nonce=nonce))
        assert read(answer).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
        assert answer.header("Cache-Control") == "no-store"
    assert len(house.signer.vouched) == 2


async def test_an_answer_is_signed_once_and_handed_out_until_half_of_its_life(house: House):
    serial = int((await issued(house)).serial, 16)
    first = await get(house, request(house, serial))
    house.now += LIFETIME / 2 - dt.timedelta(seconds=1)
    assert (await post(house, request(house, serial))).body == first.body
    house.now += dt.timedelta(seconds=1)
    assert (await get(house, request(house, serial))).body != first.body
    assert len(house.signer.vouched) == 2
    assert {share for share, _ in house.signer.vouched} == {"ocsp:test-root"}


async def test_an_answer_of_a_clock_that_was_ahead_is_not_handed_out(house: House):
    body = request(house, int((await issued(house)).serial, 16))
    house.now += dt.timedelta(hours=3)
    read(await get(house, body))
    house.now -= dt.timedelta(hours=3)
    assert read(await get(house, body)).this_update_utc <= house.now


async def test_what_was_revoked_while_the_clock_was_ahead_is_revoked_all_the_same(house: House):
    made = await issued(house)
    when = house.now + dt.timedelta(days=1000)
    await house.store.write(lambda unit: certificates.revoke(unit, made.certificate_id, reason=1, at=when))
    told = read(await get(house, request(house, int(made.serial, 16))))
    assert told.certificate_status is Kind.REVOKED
    assert told.revocation_time_utc == house.now


async def test_however_many_ask_at_once_it_is_signed_once(house: House):
    body = request(house, int((await issued(house)).serial, 16))
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append((await get(house, body)).body)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert len(answers) == 20
    assert len(set(answers)) == len(house.signer.vouched) == 1


async def test_a_failure_is_everybodys_who_waits_and_nobodys_after(house: House):
    body = request(house, int((await issued(house)).serial, 16))
    house.signer.crash = SignerUnreachable("away")

    async def ask() -> None:
        read(await get(house, body), Status.TRY_LATER)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert len(house.signer.vouched) == 1
    house.signer.crash = None
    assert read(await get(house, body)).certificate_status is Kind.GOOD


async def test_who_goes_away_while_it_signs_leaves_the_turn_to_the_next(house: House):
    body = request(house, int((await issued(house)).serial, 16))
    answers: list[Answered] = []

    async def ask() -> None:
        answers.append(await get(house, body))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as gone:
            real = house.signer.sign_ocsp

            async def hang(*arguments: object, **more: object) -> bytes:
                house.signer.sign_ocsp = real
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                gone.cancel()
                await trio.sleep_forever()
                return b""

            house.signer.sign_ocsp = hang
            await get(house, body)
    assert read(answers[0]).certificate_status is Kind.GOOD


async def test_the_headers_let_caches_keep_it_and_never_beyond_its_end(house: House):
    """RFC 5019, 6.2."""
    body = request(house, int((await issued(house)).serial, 16))
    answer = await get(house, body)
    made = read(answer)
    assert answer.header("Cache-Control") == "max-age=3600, public, no-transform, must-revalidate"
    assert (answer.header("ETag") or "").startswith(f'"{hashlib.sha1(answer.body).hexdigest()}.')
    assert parsedate_to_datetime(answer.header("Last-Modified") or "") == made.this_update_utc
    assert parsedate_to_datetime(answer.header("Expires") or "") == made.next_update_utc
    assert dt.timedelta(seconds=3600) < LIFETIME / 2


@pytest.mark.parametrize(("known", "status"), [("{}", 304), ('"x", {}', 304), ("*", 304), ('"x"', 200)])
async def test_who_has_it_is_told_so(house: House, known: str, status: int):
    """RFC 9110, 13.1.2."""
    body = request(house, int((await issued(house)).serial, 16))
    first = await get(house, body)
    again = await get(house, body, headers={"If-None-Match": known.format(first.header("ETag"))})
    assert again.status == status
    assert again.header("ETag") == first.header("ETag")
    assert (again.body == b"") is (status == 304)
    assert (await post(house, body, headers={"If-None-Match": "*"})).status == 200


async def test_what_another_worker_signed_is_as_good_for_as_long_as_it_tells_the_same(house: House):
    """RFC 9110, 13.1.2: each worker signs its own answers, and a cache asks now one and now another."""
    certificate = await issued(house)
    body = request(house, int(certificate.serial, 16))
    theirs = await get(house, body)
    house.front.statuses.held.clear()
    house.now += dt.timedelta(hours=2)
    ours = await get(house, body)
    assert ours.header("ETag") != theirs.header("ETag")
    known = {"If-None-Match": f'"x", {theirs.header("ETag")}'}
    again = await get(house, body, headers=known)
    assert (again.status, again.body, again.header("ETag")) == (304, b"", theirs.header("ETag"))
    for dated in ("Last-Modified", "Expires"):
        assert again.header(dated) == theirs.header(dated), "a cache adds it to the answer that it has"
    house.now += LIFETIME / 2 - dt.timedelta(hours=2)
    assert (await get(house, body, headers=known)).status == 200, "half of its life is over"
    other = await get(house, request(house, int((await issued(house)).serial, 16)), headers=known)
    assert other.status == 200
    house.now -= dt.timedelta(hours=3)
    assert (await get(house, body, headers={"If-None-Match": str(ours.header("ETag"))})).status == 304
    at = house.now
    await house.store.write(lambda unit: certificates.revoke(unit, certificate.certificate_id, reason=4, at=at))
    changed = await get(house, body, headers={"If-None-Match": str(ours.header("ETag"))})
    assert read(changed).certificate_status is Kind.REVOKED


async def test_head_gives_the_head(house: House):
    body = request(house, int((await issued(house)).serial, 16))
    answer = await house.ask("HEAD", path(body))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("ETag")


async def test_what_is_unknown_is_neither_kept_nor_cached(house: House):
    """A serial may be issued a moment later, and strangers can make up any number of them."""
    for count in (1, 2):
        answer = await get(house, request(house, 0x1234))
        made = read(answer)
        assert answer.header("Cache-Control") == "no-store"
        assert made.next_update_utc == house.now + UNKNOWN_LIFETIME
        assert len(house.signer.vouched) == count
    assert not house.front.statuses.held


async def test_a_negative_serial_is_unknown(house: House):
    body = bytearray(request(house, 0x55))
    body[-1] = 0x80
    assert read(await post(house, bytes(body))).certificate_status is Kind.UNKNOWN


@pytest.mark.parametrize("body", [b"", b"rubbish", b"\x30\x00"])
async def test_what_is_no_request_is_malformed(house: House, body: bytes):
    """RFC 6960, 2.3; RFC 5019, 6.2: nobody keeps it."""
    for answer in (await post(house, body), await get(house, body)):
        read(answer, Status.MALFORMED_REQUEST)
        assert answer.header("Cache-Control") == "no-store"
    read(await house.ask("GET", "/ocsp/test-root"), Status.MALFORMED_REQUEST)
    read(await house.ask("GET", "/ocsp/test-root/***"), Status.MALFORMED_REQUEST)


@pytest.mark.parametrize("name", ["nothing", "%2e%2e", "test-root%00"])
async def test_an_authority_that_is_not_ours_is_unauthorized(house: House, name: str):
    """RFC 5019, 2.2.3."""
    answer = await house.ask("POST", f"/ocsp/{name}", request(house, 1))
    read(answer, Status.UNAUTHORIZED)
    assert house.signer.vouched == []


async def test_an_authority_without_a_certificate_is_unauthorized_and_a_disabled_one_answers(house: House):
    serial = int((await issued(house)).serial, 16)
    await house.save(replace(house.pair, authority=replace(house.pair.authority, status=AuthorityStatus.DISABLED)))
    assert read(await post(house, request(house, serial))).certificate_status is Kind.GOOD
    pending = replace(house.pair.authority, status=AuthorityStatus.PENDING_CERTIFICATE)
    await house.save(replace(house.pair, authority=pending))
    read(await post(house, request(house, serial)), Status.UNAUTHORIZED)


async def test_a_digest_that_nobody_knows_is_unauthorized(house: House):
    body = request(house, 1).replace(bytes.fromhex("2b0e03021a"), bytes.fromhex("2b0e03021b"))
    read(await post(house, body), Status.UNAUTHORIZED)


async def test_nothing_is_signed_when_the_authoritys_time_is_over(house: House):
    serial = int((await issued(house)).serial, 16)
    house.now = house.pair.authority.not_after - dt.timedelta(hours=2)
    made = read(await post(house, request(house, serial)))
    assert made.next_update_utc == house.pair.authority.not_after
    house.now = house.pair.authority.not_after
    read(await post(house, request(house, serial)), Status.UNAUTHORIZED)


@pytest.mark.parametrize(
    ("crash", "status"),
    [
        (SignerUnreachable("away"), Status.TRY_LATER),
        (SignerLost("died"), Status.TRY_LATER),
        (SignerBusy(7), Status.TRY_LATER),
        (StoreUnavailable("away"), Status.TRY_LATER),
        (SignerRefused(SignerRefusal.TOKEN, "away"), Status.TRY_LATER),
        (SignerRefused(SignerRefusal.CEILING, "over"), Status.UNAUTHORIZED),
        (ZeroDivisionError("odd"), Status.INTERNAL_ERROR),
    ],
)
async def test_what_fails_is_said_in_ocsps_words(house: House, crash: Exception, status: Status):
    """RFC 6960, 2.3."""
    serial = int((await issued(house)).serial, 16)
    house.signer.crash = crash
    answer = await post(house, request(house, serial))
    read(answer, status)
    assert answer.header("Cache-Control") == "no-store"
    assert (answer.header("Retry-After") is not None) is (status is Status.TRY_LATER)


async def test_limits_speak_http(house: House):
    """RFC 6585 and RFC 9110: before anything is read."""
    assert (await post(house, b"x" * 8193)).status == 413
    assert (await house.ask("PUT", "/ocsp/test-root", b"")).header("Allow") == "GET, HEAD, POST"


async def test_status_is_told_while_enrollments_are_refused(house: House):
    """P16: a bound of its own."""
    house.set_front(limits=Limits(admission=Shut(3)))
    assert (await post(house, request(house, 1))).status == 200


async def test_signatures_under_way_are_bounded(house: House):
    house.set_front(statuses=Statuses(at_once=2))
    statuses: list[Status] = []

    async def ask(serial: int) -> None:
        answer = await post(house, request(house, serial))
        statuses.append(ocsp.load_der_ocsp_response(answer.body).response_status)

    async with trio.open_nursery() as nursery:
        for serial in range(1, 6):
            nursery.start_soon(ask, serial)
    assert statuses.count(Status.SUCCESSFUL) >= 2
    assert statuses.count(Status.TRY_LATER) >= 1
    read(await post(house, request(house, 9)))


async def test_what_is_kept_is_bounded(house: House):
    house.set_front(statuses=Statuses(most=2))
    serials = [int((await issued(house)).serial, 16) for _ in range(3)]
    for serial in (serials[0], serials[1], serials[0], serials[2]):
        read(await get(house, request(house, serial)))
    kept = [int(key[1].hexadecimal, 16) for key in house.front.statuses.held]
    assert kept == [serials[0], serials[2]]


async def test_what_is_asked_for_is_signed_ahead_and_the_rest_is_not(house: House):
    asked, once = [int((await issued(house)).serial, 16) for _ in range(2)]
    for serial in (asked, asked, once):
        read(await get(house, request(house, serial)))
    house.now += LIFETIME / 2 - AHEAD
    assert await refresh(house.resources, house.front.statuses) == 1
    house.now += AHEAD
    before = len(house.signer.vouched)
    answer = await get(house, request(house, asked))
    assert read(answer).produced_at_utc == house.now - AHEAD
    assert answer.header("ETag")
    assert len(house.signer.vouched) == before
    assert await refresh(house.resources, house.front.statuses) == 0


async def test_an_authority_that_cannot_sign_holds_up_no_other(house: House):
    """A token of one authority is away; the answers of all others are signed ahead all the same."""
    serial = int((await issued(house)).serial, 16)
    for _ in range(2):
        read(await get(house, request(house, serial)))
    ours, statuses = house.pair.authority, house.front.statuses
    other = replace(ours, id="other", name="other", key="other-key")
    await house.store.write(lambda unit: catalogue.save_authority(unit, other))
    await house.save(house.pair)
    [((_, asked), held)] = statuses.held.items()
    statuses.held["other", asked] = held
    statuses.held.move_to_end(("other", asked), last=False)
    whole = house.signer.sign_ocsp

    async def sign_ocsp(issuer: str, told, **rest):
        if issuer == "other-key":
            raise SignerUnreachable("away")
        return await whole(issuer, told, **rest)

    house.signer.sign_ocsp = sign_ocsp  # type: ignore[method-assign]
    house.now += LIFETIME / 2
    with pytest.raises(Refusal, match="out of reach"):
        await refresh(house.resources, statuses)
    assert statuses.held[ours.id, asked].vouched.this_update > house.now - LIFETIME / 4


async def test_what_was_read_earlier_and_signed_later_does_not_come_back(
    house: House, autojump_clock: trio.testing.MockClock
):
    """The answer of before a revocation, whose signature took long, must not be told again after it."""
    statuses = Statuses(memory=1.0)
    house.set_front(statuses=statuses)
    made = await issued(house)
    body = request(house, int(made.serial, 16))
    whole = house.signer.sign_ocsp

    async def slow_while_good(issuer: str, told, **rest):
        if told[0].state.kind is SerialKind.GOOD:
            await trio.sleep(5)
        return await whole(issuer, told, **rest)

    house.signer.sign_ocsp = slow_while_good  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, house, body)
        await trio.sleep(1)
        await house.store.write(lambda unit: certificates.revoke(unit, made.certificate_id, reason=1, at=house.now))
        await trio.sleep(1)
        assert read(await get(house, body)).certificate_status is Kind.REVOKED
    assert read(await get(house, body)).certificate_status is Kind.REVOKED


async def test_a_status_is_as_old_as_the_question_to_the_store(house: House, mock_clock: trio.testing.MockClock):
    """D19: what was read slowly is believed no longer for it, and keeps back nothing that was read after it began."""
    statuses = Statuses()
    made = await issued(house)
    asked = read_request(request(house, int(made.serial, 16))).ids[0]
    key = house.pair.authority.id, asked
    revoked = SerialState(SerialKind.REVOKED, house.now, RevocationReason.KEY_COMPROMISE)
    good = Vouched(b"good", house.now, house.now + LIFETIME, house.now + LIFETIME, "a", "b")
    bad = replace(good, der=b"revoked")
    statuses.keep(key, GOOD, good, read_at=trio.current_time())
    mock_clock.jump(10)
    began = trio.current_time()
    mock_clock.jump(MEMORY)
    read_at = trio.current_time()
    mock_clock.jump(MEMORY / 2)
    assert statuses.current(key, GOOD, house.now, read_at=began) is good
    assert statuses.remembered(key, house.now) is None
    statuses.keep(key, revoked, bad, read_at=read_at)
    assert statuses.remembered(key, house.now) is bad


@pytest.mark.parametrize("ask", [post, get])
async def test_a_status_that_was_read_lately_is_believed(house: House, ask, autojump_clock: trio.testing.MockClock):
    """D19: a revocation is told within the second."""
    assert MEMORY <= 1
    # Sixty times as long here: this clock goes on by itself while a thread of the store's writes.
    house.set_front(statuses=Statuses(memory=60 * MEMORY))
    made = await issued(house)
    body = request(house, int(made.serial, 16))
    for _ in range(3):
        assert read(await ask(house, body)).certificate_status is Kind.GOOD
        await trio.sleep(36 * MEMORY)
    await house.store.write(lambda unit: certificates.revoke(unit, made.certificate_id, reason=1, at=house.now))
    assert read(await ask(house, body)).certificate_status is Kind.GOOD
    await trio.sleep(60 * MEMORY)
    assert read(await ask(house, body)).certificate_status is Kind.REVOKED


async def test_what_is_known_by_its_path_is_answered_as_if_it_were_read(house: House):
    """RFC 5019, 6.2: the same head, the same bytes; conditions and other methods count as ever."""
    house.set_front(statuses=Statuses())
    body = request(house, int((await issued(house)).serial, 16))
    first, again = await get(house, body), await get(house, body)
    assert (again.status, again.headers, again.body) == (first.status, first.headers, first.body)
    held = await get(house, body, headers={"If-None-Match": first.header("ETag")})
    assert (held.status, held.body) == (304, b"")
    told = await house.ask("HEAD", path(body), scheme="http")
    assert (told.status, told.headers, told.body) == (200, first.headers, b"")
    assert (await house.ask("PUT", path(body), scheme="http")).status == 405
    assert len(house.signer.vouched) == 1


async def test_what_is_known_by_its_path_ends_with_half_of_its_life(house: House):
    house.set_front(statuses=Statuses(memory=LIFETIME.total_seconds()))
    body = request(house, int((await issued(house)).serial, 16))
    for _ in range(2):
        first = read(await get(house, body))
    house.now += LIFETIME / 2
    assert read(await get(house, body)).this_update_utc > first.this_update_utc


async def test_a_path_means_what_the_catalogue_says_now(house: House):
    """An authority of another key takes over the name: what was signed for the one before it is not handed out."""
    house.set_front(statuses=Statuses())
    body = request(house, int((await issued(house)).serial, 16))
    for _ in range(2):
        assert read(await get(house, body)).certificate_status is Kind.GOOD
    house.pair = replace(
        house.pair, authority=replace(house.pair.authority, status=AuthorityStatus.PENDING_CERTIFICATE)
    )
    await house.save(house.pair)
    read(await get(house, body), Status.UNAUTHORIZED)


async def test_a_question_that_was_read_under_the_catalogue_before_is_not_remembered_under_the_next(house: House):
    """The answer is being signed while the authority leaves; whoever asks then is told that it has left."""
    house.set_front(statuses=Statuses(memory=LIFETIME.total_seconds()))
    body = request(house, int((await issued(house)).serial, 16))
    whole, begun, left = house.signer.sign_ocsp, trio.Event(), trio.Event()

    async def slow(*told, **rest):
        begun.set()
        await left.wait()
        return await whole(*told, **rest)

    house.signer.sign_ocsp = slow  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, house, body)
        await begun.wait()
        pending = replace(house.pair.authority, status=AuthorityStatus.PENDING_CERTIFICATE)
        await house.save(replace(house.pair, authority=pending))
        read(await get(house, body), Status.UNAUTHORIZED)
        left.set()
    read(await get(house, body), Status.UNAUTHORIZED)


async def test_an_empty_body_asks_nothing_where_a_get_has_asked(house: House):
    """RFC 6960, A.1: a POST's question is its body alone."""
    house.set_front(statuses=Statuses())
    body = request(house, int((await issued(house)).serial, 16))
    assert read(await get(house, body)).certificate_status is Kind.GOOD
    read(await house.ask("POST", path(body), b"", scheme="http"), Status.MALFORMED_REQUEST)


async def test_what_is_remembered_of_questions_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch):
    """A path has many spellings, and each would be remembered."""
    monkeypatch.setattr(front_of_ocsp, "MOST_KNOWN", 2)
    app = Ocsp(house.front)
    house.app = Router([Route("/ocsp/{rest:path}", app, methods=None)])
    serial = int((await issued(house)).serial, 16)
    question = path(request(house, serial)).removeprefix("/ocsp/test-root")
    for slashes in range(4):
        target = "/ocsp/test-root" + "/" * slashes + question
        assert read(await house.ask("GET", target, scheme="http")).certificate_status is Kind.GOOD
    assert len(app._asked) == 2
    long = "/ocsp/test-root" + "/" * KNOWN + question
    assert read(await house.ask("GET", long, scheme="http")).certificate_status is Kind.GOOD
    assert not any(long.encode() in each for each in app._asked)


async def test_the_job_outlives_every_failure(
    house: House, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
):
    serial = int((await issued(house)).serial, 16)
    for _ in range(2):
        read(await get(house, request(house, serial)))
    house.now += LIFETIME / 2
    house.signer.crash = ZeroDivisionError("odd")
    with trio.move_on_after(70):
        await keep_vouched(house.resources, house.front.statuses, glance=60)
    assert "ZeroDivisionError" in caplog.text
    house.signer.crash = SignerUnreachable("away")
    with trio.move_on_after(70):
        await keep_vouched(house.resources, house.front.statuses, glance=60)
    assert "out of reach" in caplog.text
    house.signer.crash = None
    with trio.move_on_after(70):
        await keep_vouched(house.resources, house.front.statuses, glance=60)
    before = len(house.signer.vouched)
    read(await get(house, request(house, serial)))
    assert len(house.signer.vouched) == before
