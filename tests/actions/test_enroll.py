"""The waist, on a real SQLite store, with a signer that fails when told to."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio

from gateway.actions.enroll import ATTEMPTS, Hooks, enroll
from gateway.actions.resources import Resources
from gateway.domain.certificate import Certificate
from gateway.domain.issuance import Issued, Pending
from gateway.domain.policy import Policy, SanRule
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    EnrollmentRequest,
    Proof,
    ProofKind,
    Protocol,
    RequestStatus,
    San,
    SanType,
)
from gateway.outbound.signer import SignerBusy, SignerLost, SignerRefused, SignerUnreachable
from gateway.store import audit, catalogue, certificates, issuance, requests
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, StoreBusy, Unit, open_store
from signer.contract.refusal import SignerRefusal
from tests.doubles.issuer import NOW, Issuer, SignerDouble, dice, pair, public_key

NO_HOOKS = Hooks()
HOST = San(SanType.DNS_NAME, "host.example")


class Waist:
    """Everything that one test of the waist needs."""

    def __init__(self, store: Store) -> None:
        self.issuer = Issuer()
        self.signer = SignerDouble(self.issuer)
        self.pair = pair(self.issuer)
        self.store = store
        self.resources = Resources(store, self.signer, lambda: None, lambda: NOW, dice)  # type: ignore[arg-type,return-value]

    async def enroll(self, request: EnrollmentRequest, hooks: Hooks = NO_HOOKS) -> Issued | Pending:
        return await enroll(self.resources, self.pair, request, source="192.0.2.1", http_request_id="r1", hooks=hooks)

    async def serials(self) -> list[tuple[str, str]]:
        rows = await self.store.read(lambda unit: issuance.serials(unit, self.pair.authority.id))
        return [(row.serial, row.status) for row in rows]


@pytest.fixture
async def waist(tmp_path: Path) -> AsyncIterator[Waist]:
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        waist = Waist(store)

        def unit(unit: Unit) -> None:
            catalogue.save_authority(unit, waist.pair.authority)
            catalogue.save_policy(unit, waist.pair.profile.policy)
            catalogue.save_profile(unit, waist.pair.profile)
            catalogue.save_application(unit, waist.pair.application)
            catalogue.save_settings(unit, waist.pair.application.id, waist.pair.profile.id, waist.pair.settings)

        await store.write(unit)
        yield waist


def asked(**changes: object) -> EnrollmentRequest:
    key = public_key()
    proof = Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "dev1", hashlib.sha256(key.spki).digest())
    return msgspec.structs.replace(EnrollmentRequest(proof=proof, key=key, sans=(HOST,)), **changes)  # type: ignore[arg-type]


async def test_what_the_client_gets_is_in_the_inventory_with_its_request_and_audit(waist: Waist):
    issued = await waist.enroll(asked())
    assert isinstance(issued, Issued)
    row = await waist.store.read(lambda unit: certificates.find(unit, issued.certificate_id))
    assert row is not None
    assert row.der == issued.certificate
    assert row.sans == (HOST,)
    request = await waist.store.read(lambda unit: requests.find(unit, issued.request_id))
    assert request is not None
    assert request.status is RequestStatus.ISSUED
    assert request.certificate_id == issued.certificate_id
    assert await waist.serials() == [(issued.serial, "issued")]
    assert await waist.store.read(audit.verify) is None


async def test_a_serial_is_positive_of_sixteen_bytes_and_not_the_same_twice(waist: Waist):
    """D6; RFC 5280, 4.1.2.2."""
    for _ in range(2):
        await waist.enroll(asked())
    one, other = (plan.serial for plan in waist.signer.signed)
    assert one.bit_length() == other.bit_length() == 127
    assert one % 2**80 != other % 2**80


async def test_a_request_that_the_policy_refuses_is_recorded_and_never_reaches_the_signer(waist: Waist):
    policy = Policy("policy", "ours", sans=(SanRule(SanType.DNS_NAME, allowed=("*.ours.example",)),))
    waist.pair = pair(waist.issuer, policy)
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked())
    assert refusal.value.reason is RefusalReason.POLICY
    assert waist.signer.tickets == []
    assert await waist.serials() == []
    found, count = await waist.store.read(
        lambda unit: requests.search(
            unit, application_ids=None, profile_id=None, status=None, search=None, limit=5, offset=0
        )
    )
    assert count == 1
    assert found[0].status is RequestStatus.FAILED
    assert "host.example" in (found[0].failure or "")


async def test_a_worker_that_dies_burns_its_serial_and_the_next_attempt_has_another(waist: Waist):
    waist.signer.failures = [SignerLost("gone")]
    issued = await waist.enroll(asked())
    assert isinstance(issued, Issued)
    assert sorted(status for _, status in await waist.serials()) == ["burnt", "issued"]
    assert len(set(waist.signer.tickets)) == 2


async def test_workers_that_keep_dying_end_in_an_answer_that_says_when_to_come_back(waist: Waist):
    waist.signer.failures = [SignerLost("gone") for _ in range(ATTEMPTS)]
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked())
    assert refusal.value.reason is RefusalReason.UNAVAILABLE
    assert refusal.value.retry_after
    assert [status for _, status in await waist.serials()] == ["burnt"] * ATTEMPTS


async def test_an_authority_that_was_renewed_a_moment_ago_issues_with_its_new_dates(waist: Waist, monkeypatch):
    """The worker has the new certificate already, and the catalogue is a moment behind: no client sees that."""
    monkeypatch.setattr("gateway.actions.enroll.RENEWAL_PAUSE", 0.01)
    renewed = replace(waist.pair, authority=replace(waist.pair.authority, not_before=NOW))
    after = Catalogue(1, (), (), (), (), (renewed,))
    waist.resources = replace(waist.resources, catalogue=lambda: after)
    waist.signer.failures = [SignerRefused(SignerRefusal.TERM, "earlier than the issuer") for _ in range(2)]
    issued = await waist.enroll(asked())
    assert isinstance(issued, Issued)
    row = await waist.store.read(lambda unit: certificates.find(unit, issued.certificate_id))
    assert row is not None
    assert row.not_before == NOW
    assert sorted(status for _, status in await waist.serials()) == ["burnt", "burnt", "issued"]
    waist.signer.failures = [SignerRefused(SignerRefusal.TERM, "for ever") for _ in range(ATTEMPTS)]
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked())
    assert (refusal.value.reason, bool(refusal.value.retry_after)) == (RefusalReason.UNAVAILABLE, True)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (SignerBusy(7), RefusalReason.BUSY),
        (SignerUnreachable("away"), RefusalReason.UNAVAILABLE),
        (SignerRefused(SignerRefusal.CEILING, "too long"), RefusalReason.POLICY),
        (SignerRefused(SignerRefusal.LINT, "no"), RefusalReason.POLICY),
        (SignerRefused(SignerRefusal.TICKET, "spent"), RefusalReason.UNAVAILABLE),
        (SignerRefused(SignerRefusal.JOURNAL, "no room"), RefusalReason.UNAVAILABLE),
    ],
)
async def test_when_the_signer_says_no_nothing_is_issued_and_the_serial_is_burnt(waist: Waist, failure, reason):
    waist.signer.failures = [failure]
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked())
    assert refusal.value.reason is reason
    assert [status for _, status in await waist.serials()] == ["burnt"]


async def test_a_certificate_for_another_key_never_leaves(waist: Waist):
    waist.signer.swap_key = True
    with pytest.raises(Refusal):
        await waist.enroll(asked())
    assert [status for _, status in await waist.serials()] == ["burnt"]


async def test_the_same_ask_again_gets_the_same_certificate(waist: Waist):  # S79, S83
    request = asked(deduplication=b"transaction 1")
    first, second = await waist.enroll(request), await waist.enroll(request)
    assert isinstance(first, Issued)
    assert first == second
    assert len(waist.signer.signed) == 1


async def test_the_same_ask_a_hundred_times_at_once_is_signed_once(waist: Waist):  # E58, S82, A82
    request = asked(deduplication=b"transaction 2")
    outcomes: list[Issued | Pending] = []

    async def one() -> None:
        outcomes.append(await waist.enroll(request))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(one)
    assert len(waist.signer.signed) == 1
    assert len({outcome.certificate for outcome in outcomes if isinstance(outcome, Issued)}) == 1
    assert len(outcomes) == 100


async def test_an_ask_that_failed_may_be_asked_again_under_a_new_serial(waist: Waist):
    request = asked(deduplication=b"transaction 3")
    waist.signer.failures = [SignerBusy(1)]
    with pytest.raises(Refusal):
        await waist.enroll(request)
    assert isinstance(await waist.enroll(request), Issued)
    assert sorted(status for _, status in await waist.serials()) == ["burnt", "issued"]


async def test_a_client_that_goes_away_while_its_certificate_is_signed_leaves_nothing_half_done(waist: Waist):
    waiting = trio.Event()

    class Slow(SignerDouble):
        async def issue(self, plan, pair, *, ticket):
            waiting.set()
            with trio.CancelScope(shield=True):  # as the real one from the moment that a worker has the ask
                await trio.sleep(0.05)
            return await super().issue(plan, pair, ticket=ticket)

    waist.resources = replace(waist.resources, signer=Slow(waist.issuer))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waist.enroll, asked())
        await waiting.wait()
        nursery.cancel_scope.cancel()
    assert [status for _, status in await waist.serials()] == ["issued"]


async def test_a_client_that_goes_away_before_its_certificate_is_signed_gets_none_for_ever(waist: Waist):
    waiting = trio.Event()

    class Queued(SignerDouble):
        async def issue(self, plan, pair, *, ticket):
            waiting.set()
            await trio.sleep_forever()

    waist.resources = replace(waist.resources, signer=Queued(waist.issuer))
    request = asked(deduplication=bytes(32))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waist.enroll, request)
        await waiting.wait()
        nursery.cancel_scope.cancel()
    assert [status for _, status in await waist.serials()] == ["burnt"]
    # It may come back with the same request, and gets another serial then.
    waist.resources = replace(waist.resources, signer=waist.signer)
    issued = await waist.enroll(request)
    assert isinstance(issued, Issued)
    assert sorted(status for _, status in await waist.serials()) == ["burnt", "issued"]


async def test_what_is_given_up_is_recorded_without_a_guess_at_who_ended_it(waist: Waist, caplog):
    """The end of a gateway's drain looks no different from a client's: neither the request nor the log blames one."""
    waiting = trio.Event()

    class Queued(SignerDouble):
        async def issue(self, plan, pair, *, ticket):
            waiting.set()
            await trio.sleep_forever()

    waist.resources = replace(waist.resources, signer=Queued(waist.issuer))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waist.enroll, asked())
        await waiting.wait()
        nursery.cancel_scope.cancel()
    (found,), _ = await waist.store.read(
        lambda unit: requests.search(
            unit, application_ids=None, profile_id=None, status=None, search=None, limit=5, offset=0
        )
    )
    sentence = "given up before its certificate was signed: the client went away, or the gateway ended"
    assert (found.failure or "").startswith(sentence)
    assert sentence in caplog.text


async def test_a_signed_certificate_waits_for_room_in_the_store(waist: Waist):
    """The queue fills up with others' beginnings between the reservation and the end."""

    class Crowded:
        read = waist.store.read

        def __init__(self) -> None:
            self.refusals = 0

        async def write(self, work, *, shielded=False):
            if waist.signer.signed and self.refusals < 3:
                self.refusals += 1
                raise StoreBusy("full")
            return await waist.store.write(work, shielded=shielded)

    crowded = Crowded()
    waist.resources = replace(waist.resources, store=crowded)  # type: ignore[arg-type]
    assert isinstance(await waist.enroll(asked()), Issued)
    assert crowded.refusals == 3
    assert [status for _, status in await waist.serials()] == ["issued"]


@pytest.mark.parametrize("failure", [None, SignerRefused(SignerRefusal.JOURNAL, "no room left"), SignerLost("gone")])
async def test_a_serial_that_is_given_up_while_it_is_being_signed_is_nobodys(waist: Waist, failure: Exception | None):
    """An operator revokes it, or the recovery of what is overdue was quicker: the answer is one to come back with."""

    class Overtaken(SignerDouble):
        async def issue(self, plan, pair, *, ticket):
            found = await waist.store.read(lambda unit: issuance.serials(unit, pair.authority.id))
            await waist.store.write(lambda unit: issuance.recover(unit, at=NOW))
            assert [each.status for each in found if each.serial == f"{plan.serial:x}"] == ["reserved"]
            if failure is not None:
                raise failure
            return await super().issue(plan, pair, ticket=ticket)

    waist.resources = replace(waist.resources, signer=Overtaken(waist.issuer))
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked())
    assert (refusal.value.reason, refusal.value.retry_after) == (RefusalReason.UNAVAILABLE, 5)
    assert {status for _, status in await waist.serials()} == {"burnt"}


async def test_overload_is_told_before_anything_is_written(waist: Waist):
    """P16: what cannot be signed in time costs no commit."""

    class Full(SignerDouble):
        def require_room(self, share):
            raise SignerBusy(7)

    waist.resources = replace(waist.resources, signer=Full(waist.issuer))
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked())
    assert (refusal.value.reason, refusal.value.retry_after) == (RefusalReason.BUSY, 7)
    assert await waist.serials() == []


async def test_hooks_run_in_the_same_commits_and_a_refusal_in_one_undoes_the_reservation(waist: Waist):
    seen: list[str] = []

    def completed(unit: Unit, certificate: Certificate) -> None:
        seen.append(certificate.serial)

    issued = await waist.enroll(
        asked(), Hooks(with_reserve=lambda unit: seen.append("reserve"), with_complete=completed)
    )
    assert isinstance(issued, Issued)
    assert seen == ["reserve", issued.serial]

    def claimed(unit: Unit) -> None:
        raise Refusal(RefusalReason.CONFLICT, "the order is not ready")

    with pytest.raises(Refusal) as refusal:
        await waist.enroll(asked(), Hooks(with_reserve=claimed))
    assert refusal.value.reason is RefusalReason.CONFLICT
    assert len(await waist.serials()) == 1


@pytest.mark.parametrize("kind", list(ProofKind))
@pytest.mark.parametrize("protocol", list(Protocol))
async def test_a_proof_of_one_protocol_opens_no_other_protocols_door(waist: Waist, kind: ProofKind, protocol: Protocol):
    """D8, A110: every protocol with every other protocol's credentials."""
    from gateway.domain.request import PROOF_PROTOCOL

    request = asked()
    request = msgspec.structs.replace(
        request, proof=msgspec.structs.replace(request.proof, protocol=protocol, kind=kind)
    )
    if PROOF_PROTOCOL[kind] is protocol:
        assert isinstance(await waist.enroll(request), Issued)
        return
    with pytest.raises(Refusal) as refusal:
        await waist.enroll(request)
    assert refusal.value.reason is RefusalReason.FORBIDDEN
    assert waist.signer.tickets == []
