"""What is revoked, as the lists and the status service read it (D19)."""

import sqlite3
from datetime import timedelta

import pytest

from gateway.domain.revocation import GOOD, UNKNOWN, RevocationReason, SerialKind, SerialState, reason_of
from gateway.store import certificates, issuance, migrate, revocations
from gateway.store.unit import Store
from tests.store import things
from tests.store.things import NOW

LATER = NOW + timedelta(hours=1)


@pytest.mark.parametrize("reason", [each for each in RevocationReason if each is not RevocationReason.REMOVE_FROM_CRL])
async def test_the_status_of_a_revoked_serial_names_time_and_reason(store: Store, reason: RevocationReason):
    mine, other = things.certificate(), things.certificate()
    for each in (mine, other):
        await store.write(lambda unit, it=each: certificates.record(unit, it))
    assert await store.write(lambda unit: certificates.revoke(unit, mine.id, reason=reason.code, at=LATER))

    def status(serial: str, issuer: str = mine.issuer_id):
        return store.read(lambda unit: certificates.status_of(unit, issuer, serial))

    assert await status(mine.serial) == SerialState(SerialKind.REVOKED, LATER, reason)
    assert await status(other.serial) == GOOD
    assert await status(mine.serial, "another") == UNKNOWN
    assert await status("1234") == UNKNOWN


async def test_a_serial_that_may_exist_is_unknown_until_it_is_revoked_and_never_good(store: Store):
    for number, burn in ((1, False), (2, True)):
        request = things.request()
        await store.write(
            lambda unit, it=request, n=number: issuance.reserve(
                unit, request=it, deduplication=None, serial=f"a{n}", issuer_id="authority", plan=b"plan", at=NOW
            )
        )
        if burn:
            await store.write(
                lambda unit, it=request, n=number: issuance.burn(
                    unit, request_id=it.id, issuer_id="authority", serial=f"a{n}", failure="lost", at=NOW
                )
            )
        assert await store.read(lambda unit, n=number: certificates.status_of(unit, "authority", f"a{n}")) == UNKNOWN
        await store.write(
            lambda unit, n=number: revocations.put(
                unit,
                revision=revocations.begin(unit, "authority"),
                issuer_id="authority",
                serial=f"a{n}",
                reason=RevocationReason.KEY_COMPROMISE,
                at=LATER,
                not_after=LATER,
                partition=revocations.EVERY_PARTITION,
            )
        )
        found = await store.read(lambda unit, n=number: certificates.status_of(unit, "authority", f"a{n}"))
        assert found == SerialState(SerialKind.REVOKED, LATER, RevocationReason.KEY_COMPROMISE)


async def test_a_hold_that_is_released_leaves_the_certificate_good(store: Store):
    held = things.certificate()
    await store.write(lambda unit: certificates.record(unit, held))
    hold, release = RevocationReason.CERTIFICATE_HOLD, RevocationReason.REMOVE_FROM_CRL
    await store.write(lambda unit: certificates.revoke(unit, held.id, reason=hold.code, at=LATER))
    await store.write(
        lambda unit: certificates.change_revocation(
            unit, held, release, since=LATER, at=LATER, revision=revocations.begin(unit, held.issuer_id)
        )
    )
    assert await store.read(lambda unit: certificates.status_of(unit, held.issuer_id, held.serial)) == GOOD
    assert await store.read(lambda unit: certificates.find(unit, held.id)) == held
    (row,) = await store.read(lambda unit: revocations.since(unit, "authority", revision=0, serial="", most=9))
    assert (row.serial, row.reason, row.revision) == (held.serial, 8, 2)


async def test_changes_are_read_in_their_order_page_by_page_and_an_issuer_of_its_own(store: Store):
    mine = [things.certificate() for _ in range(7)]
    for each in (*mine, things.certificate(issuer_id="other")):
        await store.write(lambda unit, it=each: certificates.record(unit, it))
        await store.write(lambda unit, it=each: certificates.revoke(unit, it.id, reason=4, at=LATER))
    found: list[revocations.Revocation] = []
    known = (0, "")
    while page := await store.read(
        lambda unit, known=known: revocations.since(unit, "authority", revision=known[0], serial=known[1], most=3)  # type: ignore[misc]
    ):
        found += page
        known = (page[-1].revision, page[-1].serial)
    assert [(each.serial, each.revision) for each in found] == [(each.serial, n) for n, each in enumerate(mine, 1)]
    assert {(each.reason, each.partition) for each in found} == {(4, 3)}
    assert await store.read(revocations.revisions) == {"authority": 7, "other": 1}


def test_every_reason_has_its_number_of_rfc_5280():
    assert {each.value: each.code for each in RevocationReason} == {
        "unspecified": 0,
        "keyCompromise": 1,
        "cACompromise": 2,
        "affiliationChanged": 3,
        "superseded": 4,
        "cessationOfOperation": 5,
        "certificateHold": 6,
        "removeFromCRL": 8,
        "privilegeWithdrawn": 9,
        "aACompromise": 10,
    }
    assert [reason_of(each.code) for each in RevocationReason] == list(RevocationReason)


def test_what_was_revoked_before_the_narrow_rows_came_is_in_them():
    first, second = (each.script for each in migrate.migrations()[:2])
    connection = sqlite3.connect(":memory:")
    connection.executescript(first)
    names = [row[1] for row in connection.execute("PRAGMA table_info(certificates)")]
    for number, (revoked_at, reason) in enumerate(((None, None), (5000, 4), (6000, None))):
        given = dict.fromkeys(names, "") | {"id": f"{number}", "issuer_id": "a", "serial": f"{number}", "der": b""}
        given |= {"sha256": f"{number}", "source": "issued", "not_before": 1, "not_after": 9, "created_at": 1}
        given |= {"revoked_at": revoked_at, "revocation_reason": reason, "managed_key": None}
        places = ", ".join(f":{name}" for name in names)
        connection.execute(f"INSERT INTO certificates VALUES ({places})", given)
    connection.executescript(second)
    found = connection.execute("SELECT serial, revoked_at, reason, not_after, revision FROM revocations").fetchall()
    assert found == [("1", 5000, 4, 9, 1), ("2", 6000, 0, 9, 1)]
    assert connection.execute("SELECT * FROM revocation_revisions").fetchall() == [("a", 1)]
    connection.close()
