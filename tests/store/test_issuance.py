"""Serials and requests: durable before a signature, never used twice, and known for what they are after a crash."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.certificate import SERIAL_TRANSITIONS, SerialStatus
from gateway.domain.request import REQUEST_TRANSITIONS, CertificateRequest, ProofKind, RequestStatus, San, SanType
from gateway.store import acme, audit, catalogue, certificates, issuance, outbox, requests, revocations
from gateway.store.issuance import Existing, Reserved
from gateway.store.unit import Duplicate, StateConflict, Store, Unit, open_store
from protocols.acme.states import AuthorizationStatus, OrderStatus
from tests.store import things
from tests.store.things import DEDUPLICATION, NOW

LATER = NOW + timedelta(seconds=5)


def reserve(
    unit: Unit,
    request: CertificateRequest,
    serial: str = "ab12",
    deduplication: bytes | None = None,
    holder: int | None = None,
) -> Reserved | Existing:
    return issuance.reserve(
        unit,
        request=request,
        deduplication=deduplication,
        serial=serial,
        issuer_id="authority",
        plan=b"plan",
        at=NOW,
        holder=holder,
    )


def burn(unit: Unit, request_id: str, serial: str = "ab12") -> None:
    issuance.burn(unit, request_id=request_id, issuer_id="authority", serial=serial, failure="gone", at=LATER)


async def serials(store: Store) -> dict[str, SerialStatus]:
    found = await store.read(lambda unit: issuance.serials(unit, "authority"))
    return {each.serial: each.status for each in found}


async def test_a_certificate_its_serial_its_request_and_its_event_come_in_one_commit(store: Store):
    request = things.request()
    assert await store.write(lambda unit: reserve(unit, request)) == Reserved(request.id)
    assert await serials(store) == {"ab12": SerialStatus.RESERVED}
    certificate = things.certificate(serial="ab12", request_id=request.id)
    await store.write(lambda unit: issuance.complete(unit, certificate, at=LATER))
    assert await store.read(lambda unit: certificates.find(unit, certificate.id)) == certificate
    await store.write(lambda unit: catalogue.save_authority(unit, things.authority()))
    sha256, other = certificate.sha256, "0" * 64
    assert await store.read(lambda unit: certificates.find_by_sha256(unit, sha256, serial="ab12")) == certificate
    assert await store.read(lambda unit: certificates.find_by_sha256(unit, other, serial="ab12")) is None
    assert await store.read(lambda unit: certificates.find_by_sha256(unit, sha256, serial="ab13")) is None
    assert await store.read(lambda unit: certificates.find_by_serial(unit, "authority", "ab12")) == certificate
    assert await store.read(lambda unit: certificates.find_by_serial(unit, "other", "ab12")) is None
    found = await store.read(lambda unit: requests.find(unit, request.id))
    assert found == msgspec.structs.replace(
        request, status=RequestStatus.ISSUED, certificate_id=certificate.id, updated_at=LATER
    )
    (serial,) = await store.read(lambda unit: issuance.serials(unit, "authority"))
    assert (serial.status, serial.certificate_id, serial.plan) == (SerialStatus.ISSUED, certificate.id, None)
    (event,) = await store.read(lambda unit: outbox.pending(unit, at=LATER, limit=10))
    assert (event.kind, event.subject_id, event.application_id) == ("certificate.issued", certificate.id, "application")


async def test_a_certificate_is_found_for_whom_it_was_issued_and_for_nobody_else(store: Store):
    """RFC 8555, 7.4.2; A93, A94: what belongs to another is not there."""
    request = things.request(proof_kind=ProofKind.ACME_ORDER, proof_subject="account")
    certificate = things.certificate(serial="ab12", request_id=request.id)
    await store.write(lambda unit: reserve(unit, request))
    await store.write(lambda unit: issuance.complete(unit, certificate, at=LATER))

    async def found(
        certificate_id: str = certificate.id,
        application: str = "application",
        profile: str = "profile",
        kind: ProofKind = ProofKind.ACME_ORDER,
        subject: str = "account",
    ) -> tuple[str, bytes] | None:
        return await store.read(
            lambda unit: certificates.find_for(
                unit, certificate_id, application_id=application, profile_id=profile, kind=kind, subject=subject
            )
        )

    assert await found() == ("authority", certificate.der)
    assert await found("certificate-of-nobody") is None
    assert await found(application="other") is None
    assert await found(profile="other") is None
    assert await found(kind=ProofKind.EST_PASSPHRASE) is None
    assert await found(subject="another") is None


async def test_every_field_of_a_certificate_comes_back(store: Store):
    whole = things.certificate(
        source="imported",
        renewed_from="older",
        renewed_by="newer",
        revoked_at=LATER,
        revocation_reason=4,
    )
    for field in msgspec.structs.fields(whole):
        assert getattr(whole, field.name) != field.default, field.name
    bare = msgspec.structs.replace(
        things.certificate(source="ceremony"),
        **{
            field.name: field.default
            for field in msgspec.structs.fields(whole)
            if field.default is None or field.default == ()
        },
    )
    for certificate in (whole, bare):
        await store.write(lambda unit, it=certificate: certificates.record(unit, it))
        assert await store.read(lambda unit, it=certificate: certificates.find(unit, it.id)) == certificate


async def test_a_serial_is_used_once_whoever_asks(store: Store):
    """Reserved, burnt, issued, recorded from a ceremony: taken is taken."""
    first = things.request()
    await store.write(lambda unit: reserve(unit, first, "01"))
    await store.write(lambda unit: certificates.record(unit, things.certificate(serial="02", source="ceremony")))
    await store.write(lambda unit: reserve(unit, burnt := things.request(), "03") and burn(unit, burnt.id, "03"))
    for serial in ("01", "02", "03"):
        again = things.request()
        with pytest.raises(Duplicate):
            await store.write(lambda unit, serial=serial, again=again: reserve(unit, again, serial))
        with pytest.raises(Duplicate):
            await store.write(lambda unit, serial=serial: certificates.record(unit, things.certificate(serial=serial)))
        assert await store.read(lambda unit, again=again: requests.find(unit, again.id)) is None


async def test_two_reservations_of_one_serial_at_the_same_time_leave_one(store: Store):
    outcomes: list[object] = []

    async def one() -> None:
        try:
            outcomes.append(await store.write(lambda unit: reserve(unit, things.request())))
        except Duplicate as error:
            outcomes.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sorted(type(each).__name__ for each in outcomes) == ["Duplicate"] * 7 + ["Reserved"]


async def test_the_same_ask_is_one_request_and_hears_how_it_stands(store: Store):
    """S79, S83, A82: one certificate, however often and however quickly it is asked for."""
    first = things.request()
    outcomes = []

    async def one(number: int) -> None:
        outcomes.append(
            await store.write(
                lambda unit: reserve(unit, things.request() if number else first, f"{number:02x}", DEDUPLICATION)
            )
        )

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    (reserved,) = [each for each in outcomes if isinstance(each, Reserved)]
    assert all(each.request.id == reserved.request_id for each in outcomes if isinstance(each, Existing))
    ((serial, _),) = (await serials(store)).items()
    certificate = things.certificate(serial=serial, request_id=reserved.request_id)
    await store.write(lambda unit: issuance.complete(unit, certificate, at=LATER))
    late = await store.write(lambda unit: reserve(unit, things.request(), "ff", DEDUPLICATION))
    assert isinstance(late, Existing)
    assert late.certificate == certificate
    assert late == await store.read(lambda unit: issuance.existing(unit, reserved.request_id))
    found = await store.read(lambda unit: requests.find_by_deduplication(unit, "application", "profile", DEDUPLICATION))
    assert found == late.request
    other = things.request(profile_id="other")
    assert isinstance(await store.write(lambda unit: reserve(unit, other, "fe", DEDUPLICATION)), Reserved)


async def test_a_request_that_failed_is_taken_up_again_under_a_new_serial(store: Store):
    first = things.request()
    await store.write(lambda unit: reserve(unit, first, "01", DEDUPLICATION))
    await store.write(lambda unit: burn(unit, first.id, "01"))
    failed = await store.read(lambda unit: requests.find(unit, first.id))
    assert failed is not None
    assert (failed.status, failed.failure) == (RequestStatus.FAILED, "gone")
    second = things.request(subject="CN=again", sans=(), proof_subject="dev2")
    assert await store.write(lambda unit: reserve(unit, second, "02", DEDUPLICATION)) == Reserved(first.id)
    taken = await store.read(lambda unit: requests.find(unit, first.id))
    assert taken is not None
    assert (taken.status, taken.failure, taken.subject, taken.proof_subject) == (
        RequestStatus.SIGNING,
        None,
        "CN=again",
        "dev2",
    )
    assert await serials(store) == {"01": SerialStatus.BURNT, "02": SerialStatus.RESERVED}


async def test_what_was_burnt_meanwhile_is_not_completed_and_leaves_no_certificate(store: Store):
    request = things.request()
    await store.write(lambda unit: reserve(unit, request))
    await store.write(lambda unit: burn(unit, request.id))
    certificate = things.certificate(serial="ab12", request_id=request.id)
    with pytest.raises(StateConflict):
        await store.write(lambda unit: issuance.complete(unit, certificate, at=LATER))
    assert await store.read(lambda unit: certificates.find(unit, certificate.id)) is None
    with pytest.raises(StateConflict):
        await store.write(lambda unit: burn(unit, request.id))
    assert await serials(store) == {"ab12": SerialStatus.BURNT}


async def test_only_a_request_that_is_being_signed_reserves(store: Store):
    with pytest.raises(StateConflict):
        await store.write(lambda unit: reserve(unit, things.request(status=RequestStatus.APPROVED)))
    with pytest.raises(StateConflict):
        await store.read(lambda unit: issuance.existing(unit, "nobody"))


async def test_a_renewal_is_noted_on_the_certificate_that_it_replaces(store: Store):
    old = things.certificate(source="imported")
    request = things.request()
    new = things.certificate(serial="ab12", request_id=request.id, renewed_from=old.id)
    await store.write(lambda unit: certificates.record(unit, old))
    await store.write(lambda unit: reserve(unit, request))
    await store.write(lambda unit: issuance.complete(unit, new, at=LATER))
    found = await store.read(lambda unit: certificates.find(unit, old.id))
    assert found == msgspec.structs.replace(old, renewed_by=new.id)


async def test_after_a_crash_every_reserved_serial_is_burnt_and_its_request_says_so(store: Store, url: str):
    """Between reservation and completion the gateway dies: what may have been signed is known and never reused."""
    cut_off, issued = things.request(), things.request()
    await store.write(lambda unit: reserve(unit, cut_off, "01", DEDUPLICATION))
    await store.write(lambda unit: reserve(unit, issued, "02"))
    certificate = things.certificate(serial="02", request_id=issued.id)
    await store.write(lambda unit: issuance.complete(unit, certificate, at=NOW))
    account = things.account()
    authorization = things.authorization(account.id, status=AuthorizationStatus.VALID)
    order = things.order(account.id, (authorization,))
    await store.write(lambda unit: acme.create_account(unit, account))
    await store.write(lambda unit: acme.create_order(unit, order, (authorization,), things.PAIR, NOW))
    assert await store.write(lambda unit: acme.claim_order(unit, order.id, b"csr", NOW))

    async with open_store(url) as restarted:
        assert await restarted.write(lambda unit: issuance.recover(unit, at=LATER)) == ["01"]
        assert await restarted.write(lambda unit: issuance.recover(unit, at=LATER)) == []
        assert await serials(restarted) == {"01": SerialStatus.BURNT, "02": SerialStatus.ISSUED}
        found = await restarted.read(lambda unit: requests.find(unit, cut_off.id))
        assert found is not None
        assert (found.status, found.failure) == (RequestStatus.FAILED, issuance.STOPPED)
        ready = await restarted.read(lambda unit: acme.find_order(unit, things.PAIR, order.id, LATER))
        assert ready is not None
        assert (ready.status, ready.csr_hash) == (OrderStatus.READY, None)
        (entry,) = await restarted.read(audit.entries)
        assert (entry.event.actor, entry.event.outcome, entry.event.target) == ("system", "failed", cut_off.id)
        plans = {
            each.serial: each.plan for each in await restarted.read(lambda unit: issuance.serials(unit, "authority"))
        }
        assert plans == {"01": b"plan", "02": None}
        again = await restarted.write(lambda unit: reserve(unit, things.request(), "03", DEDUPLICATION))
        assert again == Reserved(cut_off.id)


async def test_a_gateway_that_starts_spares_what_others_reserved_since(store: Store):
    await store.write(lambda unit: reserve(unit, things.request(), "01"))
    account = things.account()
    authorization = things.authorization(account.id, status=AuthorizationStatus.VALID)
    order = things.order(account.id, (authorization,))
    await store.write(lambda unit: acme.create_account(unit, account))
    await store.write(lambda unit: acme.create_order(unit, order, (authorization,), things.PAIR, NOW))
    assert await store.write(lambda unit: acme.claim_order(unit, order.id, b"csr", NOW))

    async def status() -> OrderStatus:
        found = await store.read(lambda unit: acme.find_order(unit, things.PAIR, order.id, NOW))
        assert found is not None
        return found.status

    assert await store.write(lambda unit: issuance.recover(unit, at=LATER, before=NOW)) == []
    assert await status() is OrderStatus.PROCESSING
    assert await store.write(lambda unit: issuance.recover(unit, at=LATER, before=LATER)) == ["01"]
    assert await status() is OrderStatus.READY


async def test_what_a_process_had_that_is_gone_is_recovered_and_what_others_have_is_not(store: Store):
    """A87: a client that asks again need not wait until its enrollment is overdue."""
    account = things.account()
    await store.write(lambda unit: acme.create_account(unit, account))
    proofs = [things.authorization(account.id, status=AuthorizationStatus.VALID) for _ in range(2)]
    orders = [things.order(account.id, (each,)) for each in proofs]
    for order, proof, holder, serial in zip(orders, proofs, (7, 8), ("01", "02"), strict=True):
        await store.write(lambda unit, it=order, by=proof: acme.create_order(unit, it, (by,), things.PAIR, NOW))
        await store.write(lambda unit, it=order, by=holder: acme.claim_order(unit, it.id, b"csr", NOW, by))
        await store.write(lambda unit, by=holder, at=serial: reserve(unit, things.request(), at, holder=by))
    await store.write(lambda unit: reserve(unit, things.request(), "03"))
    assert await store.read(issuance.holders) == {7, 8}

    async def statuses() -> list[OrderStatus]:
        found = [
            await store.read(lambda unit, it=each: acme.find_order(unit, things.PAIR, it.id, NOW)) for each in orders
        ]
        return [each.status for each in found if each is not None]

    assert await store.write(lambda unit: issuance.recover_from(unit, {8}, at=LATER)) == ["02"]
    assert await statuses() == [OrderStatus.PROCESSING, OrderStatus.READY]
    assert await store.read(issuance.holders) == {7}
    assert await store.write(lambda unit: issuance.recover_from(unit, {8}, at=LATER)) == []


async def test_recovery_passes_by_what_somebody_else_ended_since_it_looked(store: Store):
    """PostgreSQL: what one statement read may have changed before the next one."""
    first, second = things.request(), things.request()
    await store.write(lambda unit: reserve(unit, first, "01"))
    await store.write(lambda unit: reserve(unit, second, "02"))

    class Overtaken:
        def __init__(self, unit: Unit) -> None:
            self._unit = unit

        def __getattr__(self, name: str) -> object:
            return getattr(self._unit, name)

        def all(self, query: str, **parameters: object) -> object:
            rows = self._unit.all(query, **parameters)  # type: ignore[arg-type]
            if query == "issuance.reserved":
                burn(self._unit, first.id, "01")
            return rows

    recovered = await store.write(lambda unit: issuance.recover(Overtaken(unit), at=LATER))  # type: ignore[arg-type]
    assert recovered == ["02"]


async def test_a_revocation_is_noted_once_and_listed_for_its_issuer(store: Store):
    mine, other, good = (things.certificate(issuer_id=issuer) for issuer in ("authority", "other", "authority"))
    for each in (mine, other, good):
        await store.write(lambda unit, it=each: certificates.record(unit, it))
        await store.write(lambda unit, it=each: it is good or certificates.revoke(unit, it.id, reason=1, at=LATER))
    assert await store.write(lambda unit: certificates.revoke(unit, mine.id, reason=4, at=NOW)) is False
    assert await store.write(lambda unit: certificates.revoke(unit, "nobody", reason=4, at=NOW)) is False
    assert await store.read(lambda unit: certificates.find(unit, mine.id)) == msgspec.structs.replace(
        mine, revoked_at=LATER, revocation_reason=1
    )
    (row,) = await store.read(lambda unit: revocations.since(unit, "authority", revision=0, serial="", most=9))
    assert (row.serial, row.reason) == (mine.serial, 1)
    events = await store.read(lambda unit: outbox.pending(unit, at=LATER, limit=10))
    assert {(each.kind, each.subject_id) for each in events} == {
        ("certificate.revoked", mine.id),
        ("certificate.revoked", other.id),
    }


def searching(**wanted: object) -> Callable[[Unit], tuple[list[CertificateRequest], int]]:
    asked = {
        "application_ids": None,
        "profile_id": None,
        "status": None,
        "search": None,
        "limit": 100,
        "offset": 0,
    } | wanted
    return lambda unit: requests.search(unit, **asked)  # type: ignore[arg-type]


async def test_requests_are_found_by_what_they_are_and_newest_first(store: Store):
    """D13: pages, filters, and a search that takes its text literally."""
    rows = [
        things.request(application_id="a", subject="CN=Web-1", created_at=NOW, status=RequestStatus.FAILED),
        things.request(application_id="a", subject="CN=100%", created_at=NOW + timedelta(seconds=1)),
        things.request(application_id="b", profile_id="p2", subject="CN=x_y", created_at=NOW + timedelta(seconds=2)),
        things.request(
            application_id="b",
            subject="CN=z!",
            sans=(San(SanType.DNS_NAME, "web-2.example"),),
            created_at=NOW + timedelta(seconds=3),
        ),
    ]
    for row in rows:
        await store.write(lambda unit, row=row: requests.record(unit, row))
    newest = rows[::-1]
    assert await store.read(searching()) == (newest, 4)
    assert await store.read(searching(limit=2, offset=1)) == (newest[1:3], 4)
    assert await store.read(searching(application_ids=("a",))) == ([rows[1], rows[0]], 2)
    assert await store.read(searching(application_ids=())) == ([], 0)
    assert await store.read(searching(application_ids=("a", "b"), profile_id="p2")) == ([rows[2]], 1)
    assert await store.read(searching(status=RequestStatus.FAILED)) == ([rows[0]], 1)
    for text, expected in (("WEB-", [3, 0]), ("%", [1]), ("_", [2]), ("!", [3]), ("nothing", []), ("'", [])):
        assert await store.read(searching(search=text)) == ([rows[index] for index in expected], len(expected)), text
    with pytest.raises(Duplicate):
        await store.write(lambda unit: requests.record(unit, rows[0]))


@pytest.mark.parametrize("text", ["a\0b", "\ud800b", "\\u0000b"])
async def test_a_refused_request_with_unstorable_text_is_recorded_and_searched_all_the_same(store: Store, text: str):
    row = things.request(
        status=RequestStatus.FAILED,
        subject=text,
        proof_subject=text,
        sans=(San(SanType.URI, text), San(SanType.DNS_NAME, "plain")),
        failure=text,
    )
    await store.write(lambda unit: requests.record(unit, row))
    (found,), count = await store.read(searching(search="PLAIN"))
    assert (count, found.id, found.sans[1]) == (1, row.id, row.sans[1])


@pytest.mark.parametrize("status", list(RequestStatus))
async def test_only_a_request_that_waits_is_cancelled(store: Store, status: RequestStatus):
    row = things.request(status=status, certificate_id="c" if status is RequestStatus.ISSUED else None)
    await store.write(lambda unit: requests.record(unit, row))
    may = RequestStatus.CANCELLED in REQUEST_TRANSITIONS[status]
    assert await store.write(lambda unit: requests.cancel(unit, row.id, LATER)) is may
    found = await store.read(lambda unit: requests.find(unit, row.id))
    assert found == (msgspec.structs.replace(row, status=RequestStatus.CANCELLED, updated_at=LATER) if may else row)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["reserve", "complete", "burn", "recover"]), st.integers(0, 3)), max_size=25))
def test_no_sequence_of_events_moves_a_serial_or_request_against_their_tables(url: str, events: list[tuple[str, int]]):
    async def play() -> None:
        prefix = things.request().id
        async with open_store(url) as store:
            state: dict[str, SerialStatus] = {}
            for event, number in events:
                key, serial = f"{prefix}-{number}".encode(), f"{prefix}-{number}-{len(state)}"
                latest = [name for name in state if name.startswith(f"{prefix}-{number}-")][-1:]
                before = dict(state)
                request_id = ""
                if latest:
                    found = await store.read(
                        lambda unit, key=key: requests.find_by_deduplication(unit, "application", "profile", key)
                    )
                    request_id = found.id if found else ""
                with suppress(StateConflict):
                    await store.write(step(event, key, latest[0] if latest else serial, serial, request_id))
                everything = await store.read(lambda unit: issuance.serials(unit, "authority"))
                state = {each.serial: each.status for each in everything if each.serial.startswith(prefix)}
                for name, was in before.items():
                    assert state[name] is was or state[name] in SERIAL_TRANSITIONS[was]
                assert all(status is SerialStatus.RESERVED for name, status in state.items() if name not in before)

    trio.run(play)


def step(event: str, key: bytes, latest: str, fresh: str, request_id: str) -> Callable[[Unit], object]:
    match event:
        case "reserve":
            return lambda unit: reserve(unit, things.request(), fresh, key)
        case "complete":
            certificate = things.certificate(serial=latest, request_id=request_id)
            return lambda unit: issuance.complete(unit, certificate, at=LATER)
        case "burn":
            return lambda unit: burn(unit, request_id, latest)
        case _:
            return lambda unit: issuance.recover(unit, at=LATER)
