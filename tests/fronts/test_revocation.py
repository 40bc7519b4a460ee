"""Revocation over REST, from the ask to the list, on a real store (D9, D14, D19)."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
from cryptography import x509

from gateway.actions.revoke import Asker, revoke_serial
from gateway.domain.access import ApplicationRole, Identity, IdentityKind, ProductRole
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.revocation import RevocationReason, SerialKind
from gateway.fronts.publication import publication_routes
from gateway.fronts.rest import rest_routes
from gateway.jobs.publication import keep_published
from gateway.outbound.signer import SignerLost
from gateway.store import access, audit, certificates, issuance, outbox
from gateway.store.unit import Unit
from tests.doubles.asgi import Answered
from tests.doubles.house import NOW, House, open_house

BASE = "/api/v1/cert-manager"
ROLES = {
    "mst_admin": (ProductRole.PRODUCT_MEMBER, ApplicationRole.ADMIN),
    "mst_operator": (ProductRole.PRODUCT_MEMBER, ApplicationRole.OPERATOR),
    "mst_auditor": (ProductRole.PRODUCT_MEMBER, ApplicationRole.AUDITOR),
    "mst_stranger": (ProductRole.PRODUCT_MEMBER, None),
    "mst_product": (ProductRole.PRODUCT_ADMIN, None),
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, lambda front: [*rest_routes(front), *publication_routes(front)]) as house:

        def unit(unit: Unit) -> None:
            for token, (product, role) in ROLES.items():
                identity = Identity(token.removeprefix("mst_"), token, IdentityKind.MACHINE, product)
                access.create_identity(unit, identity, NOW)
                access.create_token(
                    unit,
                    f"token-{token}",
                    identity_id=identity.id,
                    sha256=hashlib.sha256(token.encode()).digest(),
                    expires_at=None,
                    at=NOW,
                )
                if role is not None:
                    access.save_member(unit, "application", identity.id, role, NOW)

        await house.store.write(unit)
        yield house


async def ask(house: House, method: str, path: str, document: object = None, token: str = "mst_admin") -> Answered:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return await house.ask(
        method, BASE + path, b"" if document is None else json.dumps(document).encode(), headers=headers
    )


async def issue(house: House) -> dict[str, str]:
    wanted = {
        "profileId": "profile",
        "applicationId": "application",
        "attributes": {"commonName": "a.example", "keyAlgorithm": "EC_prime256v1"},
    }
    answer = await ask(house, "POST", "/certificates", wanted)
    assert answer.status == 200, answer.text
    certificate: dict[str, str] = json.loads(answer.body)["certificate"]
    return certificate


async def revoke(house: House, certificate: dict[str, str], reason: str, token: str = "mst_admin") -> Answered:
    path = f"/certificates/{certificate['certificateId']}/revoke"
    return await ask(house, "POST", path, {"revocationReason": reason}, token)


async def crl(house: House) -> x509.CertificateRevocationList:
    answer = await house.ask("GET", "/ca/test-root.crl", scheme="http")
    assert answer.status == 200, answer.text
    return x509.load_der_x509_crl(answer.body)


async def listed(house: House, serial: int, *, within: float = 60) -> x509.RevokedCertificate:
    """The serial's entry, once a list has it."""
    with trio.fail_after(within):
        while (found := (await crl(house)).get_revoked_certificate_by_serial_number(serial)) is None:
            await trio.sleep(0.02)
    return found


@pytest.mark.parametrize("reason", [each for each in RevocationReason if each is not RevocationReason.REMOVE_FROM_CRL])
async def test_each_reason_goes_from_rest_to_the_list_by_itself(
    house: House, nursery: trio.Nursery, reason: RevocationReason
):
    """D19: after each revocation, without anybody's look at the clock."""
    bad, good = await issue(house), await issue(house)
    nursery.start_soon(lambda: keep_published(house.resources, house.front.publications, glance=3600))
    assert len(await crl(house)) == 0
    answer = await revoke(house, bad, reason.value)
    assert answer.status == 200, answer.text
    entry = await listed(house, int(bad["serialNumber"], 16))
    if reason is RevocationReason.UNSPECIFIED:
        assert len(entry.extensions) == 0  # RFC 5280, 5.3.1
    else:
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == reason.value
    assert (await crl(house)).get_revoked_certificate_by_serial_number(int(good["serialNumber"], 16)) is None
    shown = json.loads((await ask(house, "GET", f"/certificates/{bad['certificateId']}")).body)["certificate"]
    assert (shown["status"], shown["revocationReason"]) == ("revoked", reason.value)


async def test_the_same_again_is_the_same_answer_and_changes_nothing(house: House):
    bad = await issue(house)
    first = await revoke(house, bad, "superseded")
    before = await house.store.read(audit.length)
    house.now = NOW.replace(hour=5)
    assert (await revoke(house, bad, "superseded")).body == first.body
    assert await house.store.read(audit.length) == before


async def test_another_reason_is_a_conflict_that_names_what_stands_but_a_compromise_is_always_noted(house: House):
    bad = await issue(house)
    first = json.loads((await revoke(house, bad, "superseded")).body)
    refused = await revoke(house, bad, "affiliationChanged")
    assert refused.status == 409
    assert "superseded" in json.loads(refused.body)["detail"]
    house.now = NOW.replace(hour=5)
    upgraded = await revoke(house, bad, "keyCompromise")
    assert upgraded.status == 200
    assert json.loads(upgraded.body)["revokedAt"] == first["revokedAt"]
    assert (await revoke(house, bad, "superseded")).status == 409


async def test_a_hold_is_released_or_made_final(house: House, nursery: trio.Nursery):
    nursery.start_soon(lambda: keep_published(house.resources, house.front.publications, glance=3600))
    bad = await issue(house)
    serial = int(bad["serialNumber"], 16)
    assert (await revoke(house, bad, "removeFromCRL")).status == 409
    assert (await revoke(house, bad, "certificateHold")).status == 200
    await listed(house, serial)
    released = json.loads((await revoke(house, bad, "removeFromCRL")).body)
    assert released["revokedAt"] is None
    with trio.fail_after(60):
        while (await crl(house)).get_revoked_certificate_by_serial_number(serial) is not None:
            await trio.sleep(0.02)
    shown = json.loads((await ask(house, "GET", f"/certificates/{bad['certificateId']}")).body)["certificate"]
    assert (shown["status"], shown["revokedAt"], shown["revocationReason"]) == ("active", None, None)
    assert (await revoke(house, bad, "certificateHold")).status == 200
    assert (await revoke(house, bad, "privilegeWithdrawn")).status == 200
    assert (await revoke(house, bad, "removeFromCRL")).status == 409


async def test_who_revokes_and_why_is_in_the_audit_trail_and_the_outbox(house: House):
    """D17, D24."""
    bad = await issue(house)
    await revoke(house, bad, "keyCompromise", "mst_operator")
    entries = await house.store.read(audit.entries)
    event = next(each.event for each in entries if each.event.action == "certificate.revoke")
    assert (event.actor, event.target) == ("api-token:mst_operator", bad["certificateId"])
    assert (event.application_id, event.outcome) == ("application", "success")
    assert event.detail == f"serial {bad['serialNumber']}: keyCompromise"
    waiting = await house.store.read(lambda unit: outbox.pending(unit, at=house.now, limit=10))
    assert [each.subject_id for each in waiting if each.kind == "certificate.revoked"] == [bad["certificateId"]]


@pytest.mark.parametrize(
    ("token", "status"),
    [("mst_admin", 200), ("mst_operator", 200), ("mst_auditor", 403), ("mst_product", 403), ("mst_stranger", 404)],
)
async def test_the_table_of_roles_says_who_may_revoke(house: House, token: str, status: int):
    """D9: a Product Admin who is not a member reads, and does not revoke."""
    bad = await issue(house)
    assert (await revoke(house, bad, "superseded", token)).status == status
    read = await ask(house, "GET", f"/certificates/{bad['certificateId']}", token=token)
    assert read.status == (404 if token == "mst_stranger" else 200)


async def test_a_certificate_that_is_not_there_is_not_revoked(house: House):
    assert (await revoke(house, {"certificateId": "nothing"}, "superseded")).status == 404


def by_serial(serial: str, authority: str = "test-root") -> str:
    return f"/authorities/{authority}/serials/{serial}/revoke"


async def test_a_burnt_serial_is_revoked_though_nobody_has_its_certificate(house: House, nursery: trio.Nursery):
    """D19: a worker that died may have signed. The serial is known, and is put on every list."""
    house.signer.failures = [SignerLost("gone")]
    await issue(house)
    (burnt,) = [
        each
        for each in await house.store.read(lambda unit: issuance.serials(unit, "authority"))
        if each.status.value == "burnt"
    ]
    nursery.start_soon(lambda: keep_published(house.resources, house.front.publications, glance=3600))
    wanted = {"revocationReason": "keyCompromise"}
    answer = await ask(house, "POST", by_serial(burnt.serial), wanted, "mst_product")
    assert answer.status == 200, answer.text
    assert json.loads(answer.body)["certificateId"] is None
    await listed(house, int(burnt.serial, 16))
    state = await house.store.read(lambda unit: certificates.status_of(unit, "authority", burnt.serial))
    assert state.kind is SerialKind.REVOKED
    again = await ask(house, "POST", by_serial(burnt.serial), wanted, "mst_product")
    assert again.body == answer.body
    other = {"revocationReason": "superseded"}
    assert (await ask(house, "POST", by_serial(burnt.serial), other, "mst_product")).status == 409


async def test_a_serial_that_the_store_never_heard_of_is_revoked_and_never_used(house: House):
    """A store that was restored from an older copy does not know what was issued since."""
    answer = await ask(house, "POST", by_serial("00DEADBEEF"), None, "mst_product")
    assert answer.status == 200, answer.text
    state = await house.store.read(lambda unit: certificates.status_of(unit, "authority", "deadbeef"))
    assert state.kind is SerialKind.REVOKED
    found = await house.store.read(lambda unit: issuance.find_serial(unit, "authority", "deadbeef"))
    assert found is not None
    assert found.status.value == "burnt"


async def test_a_serial_that_is_recorded_while_it_is_revoked_is_asked_for_again(house: House):
    """PostgreSQL: a certificate that was not there a statement ago. List and inventory must say the same of it."""
    certificate = await issue(house)

    class Blind:
        def __init__(self, unit: Unit) -> None:
            self._unit = unit

        def __getattr__(self, name: str) -> object:
            return getattr(self._unit, name)

        def one(self, query: str, **parameters: object) -> object:
            return None if query == "certificates.find_by_serial" else self._unit.one(query, **parameters)  # type: ignore[arg-type]

    class Early:
        read = house.store.read

        async def write(self, work):
            return await house.store.write(lambda unit: work(Blind(unit)))

    resources = replace(house.resources, store=Early())  # type: ignore[arg-type]
    serial = certificate["serialNumber"].replace(":", "").lower().lstrip("0")
    with pytest.raises(Refusal) as refusal:
        await revoke_serial(
            resources,
            house.front.publications,
            house.pair.authority,
            serial=serial,
            reason=RevocationReason.SUPERSEDED,
            asker=Asker("operator"),
        )
    assert refusal.value.reason is RefusalReason.CONFLICT
    state = await house.store.read(lambda unit: certificates.status_of(unit, "authority", serial))
    assert state.kind is SerialKind.GOOD


async def test_a_hold_on_a_bare_serial_can_be_released(house: House):
    for reason in ("certificateHold", "removeFromCRL"):
        answer = await ask(house, "POST", by_serial("ab"), {"revocationReason": reason}, "mst_product")
        assert answer.status == 200, answer.text
    state = await house.store.read(lambda unit: certificates.status_of(unit, "authority", "ab"))
    assert state.kind is SerialKind.UNKNOWN


async def test_an_applications_certificate_is_not_revoked_by_its_serial(house: House):
    """D9: that right is its application's."""
    certificate = await issue(house)
    answer = await ask(house, "POST", by_serial(certificate["serialNumber"]), None, "mst_product")
    assert answer.status == 409
    assert certificate["certificateId"] in json.loads(answer.body)["detail"]


async def test_an_authoritys_own_certificate_is_revoked_by_product_admins_alone(house: House):
    certificate = await issue(house)
    found = await house.store.read(lambda unit: certificates.find(unit, certificate["certificateId"]))
    assert found is not None
    own = msgspec.structs.replace(
        found, id="own", serial="1234", sha256="00" * 32, application_id=None, profile_id=None, source="ceremony"
    )
    await house.store.write(lambda unit: certificates.record(unit, own))
    assert (await revoke(house, {"certificateId": "own"}, "cACompromise", "mst_admin")).status == 404
    assert (await ask(house, "GET", "/certificates/own", token="mst_admin")).status == 404
    assert (await ask(house, "GET", "/certificates/own", token="mst_product")).status == 200
    answer = await ask(house, "POST", by_serial("1234"), {"revocationReason": "cACompromise"}, "mst_product")
    assert json.loads(answer.body)["certificateId"] == "own"


@pytest.mark.parametrize("token", ["mst_admin", "mst_operator", "mst_auditor", "mst_stranger"])
async def test_serials_are_revoked_by_product_admins_alone(house: House, token: str):
    assert (await ask(house, "POST", by_serial("ab"), None, token)).status == 403


async def test_an_unknown_authority_has_no_serials(house: House):
    assert (await ask(house, "POST", by_serial("ab", "nothing"), None, "mst_product")).status == 404
