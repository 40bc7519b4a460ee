"""What ceremonies make of authorities, in the store: one unit each, audited, and declared names keep their meaning (D19, D28)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.actions import adopt
from gateway.actions.admit import admitted
from gateway.actions.adopt import Urls
from gateway.actions.certify import By, named, record, renew, succeed, switch
from gateway.domain.authority import AuthorityManifest, AuthorityStatus
from gateway.domain.declaration.shape import AuthorityDeclaration
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Protocol
from gateway.store import audit, certificates
from gateway.store.unit import EPOCH
from tests.actions.test_configure import DEMO, Installation, opened

LATER = datetime(2026, 9, 1, 12, tzinfo=UTC)


@pytest.fixture
async def installation(tmp_path):
    async with opened(tmp_path) as store:
        yield Installation(store)


def by(installation: Installation) -> By:
    return By("cli:1000", LATER, installation.dice)


async def again(
    installation: Installation, name: str, parent: str | None = None, days: int = 5000
) -> AuthorityManifest:
    """Another certificate for that name's subject, with another key, as a test's ceremony makes them."""
    found = (await installation.catalogue()).authorities
    above = next((each for each in found if each.name == parent), None)
    old = next((each for each in found if each.name == name), None)
    subject = "" if old is None else old.subject
    declared = AuthorityDeclaration(name=f"{name} again", subject=subject, days=days, scep=bool(old and old.ra_key))
    return await installation.ceremonies(declared, above)


async def by_name(installation: Installation):
    return {each.name: each for each in (await installation.catalogue()).authorities}


async def succeeded(installation: Installation, name: str, new: str, parent: str | None):
    manifest = await again(installation, name, parent)
    above = (await by_name(installation)).get(parent or "")
    urls = Urls((f"http://x/ca/{new}.crl",))
    installation.ceremonies._made[new] = installation.ceremonies._made[f"{name} again"]
    successor = adopt.generation(f"id of {new}", new, manifest, above.id if above else None, urls)
    return await succeed(installation.store, name, successor, by=by(installation))


async def test_a_renewed_certificate_is_in_every_chain_below_and_in_the_inventory(installation):
    await installation.apply(DEMO)
    before = await by_name(installation)
    manifest = await again(installation, "root")
    below = await renew(installation.store, "root", manifest, "renew", parent_id=None, by=by(installation))
    after = await by_name(installation)
    assert below == 1
    assert after["root"].id == before["root"].id
    assert after["root"].key == before["root"].key
    assert after["root"].certificate == manifest.chain[0]
    assert after["issuing"].chain == (before["issuing"].certificate, manifest.chain[0])
    serial = f"{x509.load_der_x509_certificate(manifest.chain[0]).serial_number:x}"
    row = await installation.store.read(lambda unit: certificates.find_by_serial(unit, before["root"].id, serial))
    assert row.source == "ceremony"
    event = (await installation.store.read(audit.entries))[-1].event
    assert (event.actor, event.action, event.target) == ("cli:1000", "authority.renew", "root")


async def test_the_same_renewal_recorded_twice_is_one_row(installation):
    await installation.apply(DEMO)
    manifest = await again(installation, "root")
    for _ in range(2):
        await renew(installation.store, "root", manifest, "renew", parent_id=None, by=by(installation))
    assert (await by_name(installation))["root"].certificate == manifest.chain[0]


async def test_profiles_move_to_the_successor_in_the_same_unit(installation):
    await installation.apply(DEMO)
    moved = await succeeded(installation, "issuing", "issuing-g2", "root")
    assert set(moved) == {"tls-server", "device"}
    found = await installation.catalogue()
    authorities = {each.name: each for each in found.authorities}
    assert found.pair("demo", "device").authority.name == "issuing-g2"
    assert authorities["issuing"].successor_id == authorities["issuing-g2"].id
    assert authorities["issuing"].status is AuthorityStatus.ACTIVE, "its lists and OCSP go on"
    assert not authorities["issuing"].issues
    old_pair = replace(found.pair("demo", "device"), authority=authorities["issuing"])
    with pytest.raises(Refusal) as refused:
        admitted(old_pair, Protocol.EST)
    assert refused.value.reason is RefusalReason.UNAVAILABLE


async def test_a_declaration_that_names_the_old_authority_means_its_successor_and_changes_nothing(
    installation,
):
    """D28: idempotent after a rekey of the issuing authority and of its root."""
    await installation.apply(DEMO)
    await succeeded(installation, "root", "root-g2", None)
    assert await installation.differences(DEMO) == []
    await succeeded(installation, "issuing", "issuing-g2", "root-g2")
    assert await installation.differences(DEMO) == []
    assert await installation.apply(DEMO) == []
    assert (await installation.catalogue()).pair("demo", "device").authority.name == "issuing-g2"


async def test_what_is_declared_below_an_old_authority_is_made_below_its_successor(installation):
    await installation.apply(DEMO)
    await succeeded(installation, "root", "root-g2", None)
    new = replace_authorities(AuthorityDeclaration(name="devices", parent="root"))
    assert await installation.apply(new) == ["+ authority devices"]
    assert installation.ceremonies.asked[-1] == ("devices", "root-g2")
    found = await by_name(installation)
    assert found["devices"].parent_id == found["root-g2"].id


async def test_links_stand_in_the_inventory_under_the_key_that_signed_them(installation):
    """RFC 4210, 4.4: OldWithNew is the new key's work, NewWithOld the old one's."""
    await installation.apply(DEMO)
    manifest = await again(installation, "root")
    old = (await by_name(installation))["root"]
    signer = installation.ceremonies._made["root again"]
    new_with_old = relink(manifest.chain[0], installation.ceremonies._made["root"][0])
    old_with_new = relink(old.certificate, signer[0])
    linked = replace(manifest, links=(old_with_new, new_with_old))
    successor = adopt.generation("id of root-g2", "root-g2", linked, None, Urls())
    await succeed(installation.store, "root", successor, by=by(installation))
    for der, issuer in ((old_with_new, "id of root-g2"), (new_with_old, old.id)):
        serial = f"{x509.load_der_x509_certificate(der).serial_number:x}"
        row = await installation.store.read(
            lambda unit, issuer=issuer, serial=serial: certificates.find_by_serial(unit, issuer, serial)
        )
        assert row.der == der
    found = await by_name(installation)
    assert found["root"].links == found["root-g2"].links == (old_with_new, new_with_old)


async def test_a_second_successor_and_a_taken_name_are_refused_and_nothing_is_changed(installation):
    await installation.apply(DEMO)
    await succeeded(installation, "issuing", "issuing-g2", "root")
    before = await installation.catalogue()
    for name, new, sentence in (
        ("issuing", "issuing-g3", "has a successor already"),
        ("issuing-g2", "root", "there is an authority root already"),
        ("nobody", "x", "there is no authority nobody; there are: issuing, issuing-g2, root"),
    ):
        with pytest.raises(Refusal, match=sentence):
            await succeeded(installation, name, new, "root")
    assert await installation.catalogue() == before


async def test_an_authority_that_waits_issues_once_it_has_its_certificate(installation):
    await installation.apply(DEMO)
    issuing = (await by_name(installation))["issuing"]
    waiting = replace(
        issuing, id="w", name="waiting", chain=(), status=AuthorityStatus.PENDING_CERTIFICATE, ra_key=None,
        ra_certificate=None, not_before=EPOCH, not_after=EPOCH, predecessor_id=issuing.id,
    )  # fmt: skip
    await record(installation.store, waiting, "request", by=by(installation))
    assert await installation.differences(DEMO) == []
    with pytest.raises(Refusal, match="waits for its certificate: muster authority install waiting"):
        await switch(installation.store, "waiting", AuthorityStatus.DISABLED, by=by(installation))
    manifest = await again(installation, "issuing", "root")
    await renew(installation.store, "waiting", manifest, "install", parent_id=None, by=by(installation))
    found = await installation.catalogue()
    assert named(found, "waiting").issues
    assert found.pair("demo", "device").authority.name == "waiting", "it was to take the old one's place"
    assert not named(found, "issuing").issues


async def test_a_disabled_authority_issues_again_when_it_is_enabled(installation):
    await installation.apply(DEMO)
    for status, issues in ((AuthorityStatus.DISABLED, False), (AuthorityStatus.ACTIVE, True)):
        for _ in range(2):
            version = (await installation.catalogue()).version
            await switch(installation.store, "issuing", status, by=by(installation))
        assert (await by_name(installation))["issuing"].issues is issues
        assert (await installation.catalogue()).version == version, "the second time nothing changes"


def replace_authorities(*more: AuthorityDeclaration):
    import msgspec

    return msgspec.structs.replace(DEMO, authorities=[*DEMO.authorities, *more])


def relink(der: bytes, key) -> bytes:
    from cryptography.hazmat.primitives import hashes

    model = x509.load_der_x509_certificate(der)
    builder = (
        x509.CertificateBuilder()
        .subject_name(model.subject)
        .issuer_name(model.subject)
        .public_key(model.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(LATER)
        .not_valid_after(LATER + timedelta(days=10))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
