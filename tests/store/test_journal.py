"""What the store knows of a serial, and the pages of what was issued, on both engines."""

from datetime import timedelta

from gateway.domain.certificate import SerialStatus
from gateway.domain.revocation import RevocationReason
from gateway.store import certificates, journal, revocations
from gateway.store.unit import Store, Unit
from tests.store.things import NOW, certificate


async def test_a_serial_is_found_as_it_stands(store: Store):
    def reserve(unit: Unit) -> None:
        unit.run("issuance.reserve", issuer_id="ca", serial="a1", request_id="r", plan=b"p", at=0, holder=None)
        revocations.put(
            unit,
            issuer_id="ca",
            serial="a1",
            reason=RevocationReason.UNSPECIFIED,
            at=NOW,
            not_after=NOW,
            partition=None,
            revision=1,
        )
        unit.run("issuance.reserve", issuer_id="ca", serial="a2", request_id="r", plan=b"p", at=0, holder=None)
        unit.run("issuance.reserve", issuer_id="ca", serial="a3", request_id="r", plan=b"p", at=0, holder=None)
        revocations.put(
            unit,
            issuer_id="ca",
            serial="a3",
            reason=RevocationReason.REMOVE_FROM_CRL,
            at=NOW,
            not_after=NOW,
            partition=None,
            revision=2,
        )

    await store.write(reserve)
    assert await store.read(lambda unit: journal.find(unit, "ca", "a1")) == journal.Known(
        SerialStatus.RESERVED, None, True
    )
    assert await store.read(lambda unit: journal.find(unit, "ca", "a2")) == journal.Known(
        SerialStatus.RESERVED, None, False
    )
    # A hold that was released is no revocation: what may exist under it is trusted.
    assert await store.read(lambda unit: journal.find(unit, "ca", "a3")) == journal.Known(
        SerialStatus.RESERVED, None, False
    )
    assert await store.read(lambda unit: journal.find(unit, "other", "a1")) is None


async def test_what_was_issued_comes_in_pages(store: Store):
    made = [certificate(id=f"c{n}", serial=f"a{n}", sha256=f"{n}", source="issued") for n in range(5)]

    def record(unit: Unit) -> None:
        for each in made:
            certificates.record(unit, each)

    await store.write(record)
    seen: list[str] = []
    after = ""
    until = NOW + timedelta(days=1)
    while page := await store.read(lambda unit, behind=after: journal.issued(unit, after=behind, until=until, most=2)):
        after = page[-1].id
        seen += [each.serial for each in page]
    assert sorted(seen) == sorted(each.serial for each in made if each.source == "issued")
    assert await store.read(lambda unit: journal.issued(unit, after="", until=NOW - timedelta(days=1), most=9)) == []
    found = await store.read(lambda unit: journal.find(unit, made[0].issuer_id, made[0].serial))
    assert found == journal.Known(SerialStatus.ISSUED, made[0].der, False)
