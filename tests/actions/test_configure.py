"""D28: a declaration is shown, applied in one unit, audited, and nothing the second time. Real store, real certificates."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.actions.configure import configure, differences
from gateway.domain.application import EnrollmentSettings
from gateway.domain.authority import Authority, AuthorityKind, AuthorityManifest
from gateway.domain.declaration.demo import demo
from gateway.domain.declaration.reading import DeclarationError, read
from gateway.domain.declaration.shape import AuthorityDeclaration
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.store import audit, catalogue, certificates
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEMO = demo(passphrase="correct horse", challenge="battery staple", http_url="http://127.0.0.1:8080")

MINE = """
[[authorities]]
name = "issuing"
subject = "O=Example,CN=issuing"
{authority}

[[policies]]
name = "servers"
preset = "tls-server"
{policy}

[[profiles]]
slug = "web"
authority = "issuing"
policy = "servers"
{profile}

[[applications]]
name = "shop"
profiles = ["web"]
{application}

[applications.enrollment.web]
{doors}
"""


def declaration(
    authority="", policy="", profile="", application="", doors="api = {}\nest = { passphrase = 'correct horse' }"
):
    return read(MINE.format(authority=authority, policy=policy, profile=profile, application=application, doors=doors))


class Ceremonies:
    """Keys and certificates as a ceremony would make them; what it was asked for, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self._made: dict[str, tuple[ec.EllipticCurvePrivateKey, x509.Certificate]] = {}

    async def __call__(self, declared: AuthorityDeclaration, parent: Authority | None) -> AuthorityManifest:
        self.asked.append((declared.name, None if parent is None else parent.name))
        subject = x509.Name.from_rfc4514_string(declared.subject or f"CN={declared.name}")
        key = ec.generate_private_key(ec.SECP256R1())
        signer = self._made[parent.name] if parent else None
        own = self._certificate(subject, key, signer, days=declared.days)
        self._made[declared.name] = (key, own)
        chain = (own.public_bytes(Encoding.DER), *(parent.chain if parent else ()))
        if not declared.scep:
            return AuthorityManifest(f"key of {declared.name}", chain)
        ra_key = rsa.generate_private_key(65537, 2048)
        ra = self._certificate(x509.Name.from_rfc4514_string("CN=RA"), ra_key, (key, own), days=365)
        return AuthorityManifest(
            f"key of {declared.name}", chain, f"ra of {declared.name}", ra.public_bytes(Encoding.DER)
        )

    def _certificate(self, subject, key, signer, *, days: int) -> x509.Certificate:
        issuer_key, issuer = (key, subject) if signer is None else (signer[0], signer[1].subject)
        builder = x509.CertificateBuilder(
            issuer, subject, key.public_key(), x509.random_serial_number(), NOW, NOW + timedelta(days=days)
        )
        return builder.sign(issuer_key, hashes.SHA256())


class Dice:
    """Different every time, and the same in every run."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size)


def hash_secret(text: str) -> str:
    return f"hash of {text}"


def verify_secret(stored: str, text: str) -> bool:
    return stored == f"hash of {text}"


class Installation:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.ceremonies = Ceremonies()
        self.dice = Dice()

    async def apply(self, declared, ceremony=None) -> list[str]:
        changes = await configure(
            self.store, declared, ceremony=ceremony or self.ceremonies, actor="system", now=NOW, dice=self.dice,
            hash_secret=hash_secret, verify_secret=verify_secret,
        )  # fmt: skip
        return [str(each) for each in changes]

    async def catalogue(self) -> Catalogue:
        return await self.store.read(catalogue.load)

    async def differences(self, declared) -> list[str]:
        return [str(each) for each in differences(declared, await self.catalogue(), verify_secret)]


@pytest.fixture
async def installation(tmp_path):
    async with opened(tmp_path) as store:
        yield Installation(store)


@asynccontextmanager
async def opened(folder):
    async with open_store(f"sqlite:///{folder}/store.db") as store:
        yield store


async def test_the_demonstration_is_applied_whole_and_nothing_the_second_time(installation):
    said = [
        "+ authority root",
        "+ authority issuing",
        "+ policy tls-server",
        "+ policy device",
        "+ profile tls-server",
        "+ profile device",
        "+ application demo",
        "+ enrollment demo/tls-server: api enabled, acme enabled, est enabled, scep enabled",
        "+ enrollment demo/device: api enabled, acme enabled, est enabled, scep enabled",
    ]
    assert await installation.differences(DEMO) == said
    assert await installation.apply(DEMO) == said
    first = await installation.catalogue()
    assert await installation.differences(DEMO) == []
    assert await installation.apply(DEMO) == []
    assert await installation.catalogue() == first
    assert installation.ceremonies.asked == [("root", None), ("issuing", "root")]


async def test_what_was_applied_enrolls_as_declared(installation):
    await installation.apply(DEMO)
    found = await installation.catalogue()
    pair = found.pair("demo", "tls-server")
    assert pair.settings.est.passphrase_hash == "hash of correct horse"
    assert pair.settings.scep.challenge_hash == "hash of battery staple"
    assert pair.settings.acme.allowed_networks == ("127.0.0.0/8", "::1/128")
    assert found.pair_by_label("demo.device").profile.slug == "device"
    issuing, root = (
        pair.authority,
        found.authorities[0] if found.authorities[0].name == "root" else found.authorities[1],
    )
    assert (root.kind, issuing.kind, issuing.parent_id) == (AuthorityKind.ROOT, AuthorityKind.INTERMEDIATE, root.id)
    assert (issuing.key, issuing.ra_key, issuing.key_algorithm) == ("key of issuing", "ra of issuing", "EC_prime256v1")
    assert issuing.chain == (issuing.certificate, root.certificate)
    assert issuing.crl_urls == ("http://127.0.0.1:8080/ca/issuing.crl",)
    assert issuing.not_after == NOW + timedelta(days=3650)


async def test_deltas_are_turned_on_beside_the_addresses_that_are_there_and_stay_until_they_are_turned_off(
    installation,
):
    """D19."""
    url = 'crlUrls = ["http://a.example/x.crl"]'
    await installation.apply(declaration(authority=url))
    for said, on in (("crlDeltas = true", True), ("", True), ("crlDeltas = false", False)):
        await installation.apply(declaration(authority=said))
        [authority] = (await installation.catalogue()).authorities
        assert authority.lists.deltas is on
    await installation.apply(declaration(authority="crlDeltas = true"))
    with pytest.raises(DeclarationError, match="crlDeltas: crlUrls needs an address"):
        await installation.apply(declaration(authority='crlUrls = ["https://a.example/x.crl"]'))


async def test_the_ceremonys_certificates_stand_in_the_inventory(installation):
    await installation.apply(DEMO)
    found = await installation.catalogue()
    by_name = {each.name: each for each in found.authorities}
    issuers = {
        by_name["root"].certificate: by_name["root"].id,
        by_name["issuing"].certificate: by_name["root"].id,
        by_name["issuing"].ra_certificate: by_name["issuing"].id,
    }
    for der, issuer_id in issuers.items():
        serial = f"{x509.load_der_x509_certificate(der).serial_number:x}"
        row = await installation.store.read(
            lambda unit, serial=serial, issuer_id=issuer_id: certificates.find_by_serial(unit, issuer_id, serial)
        )
        assert row.der == der
        assert (row.source, row.application_id) == ("ceremony", None)


async def test_each_change_is_an_audit_event(installation):
    await installation.apply(declaration())
    events = await installation.store.read(audit.entries)
    assert [entry.event.action for entry in events] == [
        "authority.create",
        "policy.create",
        "profile.create",
        "application.create",
        "enrollment.create",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"authority": "crlUrls = ['http://x/a.crl']"}, ["~ authority issuing: crlUrls"]),
        ({"policy": "validity = { max = '30d' }"}, ["~ policy servers: validity"]),
        ({"profile": "clipValidity = false\ndefaults.ttl = '1d'"}, ["~ profile web: defaults, clipValidity"]),
        ({"application": "description = 'sells'"}, ["~ application shop: description"]),
        ({"doors": "est = { passphrase = 'another horse' }"}, ["~ enrollment shop/web: api disabled, est passphrase"]),
        ({"doors": "api = {}\nest = {}\nscep = {}"}, ["~ enrollment shop/web: est passphrase, scep enabled"]),
        (
            {"doors": "api = {}\nest = { passphrase = 'correct horse', label = 'shop', wrap = 64 }"},
            ["~ enrollment shop/web: est label, wrap"],
        ),
    ],
)
async def test_a_change_is_said_applied_and_then_gone(installation, changes, said):
    await installation.apply(declaration())
    changed = declaration(**changes)
    assert await installation.differences(changed) == said
    assert await installation.apply(changed) == said
    assert await installation.apply(changed) == []
    assert len(installation.ceremonies.asked) == 1


async def test_what_a_declaration_does_not_speak_of_is_left_alone(installation):
    await installation.apply(declaration(authority="crlUrls = ['http://x/a.crl']"))
    before = await installation.catalogue()
    silent = read('[[applications]]\nname = "shop"')
    assert await installation.apply(silent) == []
    assert await installation.apply(read("")) == []
    assert await installation.apply(declaration()) == []
    assert await installation.catalogue() == before


async def test_an_attached_profile_without_doors_is_closed(installation):
    declared = read(
        MINE.format(authority="", policy="", profile="", application="", doors="").replace(
            "[applications.enrollment.web]", ""
        )
    )
    assert (await installation.apply(declared))[-1] == "+ enrollment shop/web: no method enabled"
    assert (await installation.catalogue()).pairs[0].settings == EnrollmentSettings()


async def test_a_profile_that_gets_another_policy_says_so(installation):
    await installation.apply(declaration())
    other = '[[policies]]\nname = "other"\n[[profiles]]\nslug = "web"\nauthority = "issuing"\npolicy = "other"'
    assert await installation.apply(read(other)) == ["+ policy other", "~ profile web: policy"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[profiles]]\nslug = "x"\nauthority = "isuing"\npolicy = "servers"', 'profiles[0].authority: "isuing" is not known; did you mean "issuing"?'),
        ('[[profiles]]\nslug = "x"\nauthority = "issuing"\npolicy = "y"', 'profiles[0].policy: "y" is not known; known: servers'),
        ('[[applications]]\nname = "a"\nprofiles = ["webb"]', 'applications[0].profiles[0]: "webb" is not known; did you mean "web"?'),
        ('[[authorities]]\nname = "a"\nparent = "b"', 'authorities[0].parent: "b" is not known; known: issuing, a'),
        ('[[authorities]]\nname = "a"\nparent = "b"\n[[authorities]]\nname = "b"\nparent = "a"', 'authorities[0].parent: "b" cannot be made before what it signs'),
        ('[[authorities]]\nname = "a"\nsubject = "nonsense"', 'authorities[0].subject: "nonsense" is not a distinguished name'),
        ('[[authorities]]\nname = "issuing"\nsubject = "CN=Other"', "authorities[0].subject: this authority is"),
        ('[[authorities]]\nname = "issuing"\nkeyAlgorithm = "ED25519"', "authorities[0].keyAlgorithm: this authority has a key of EC_prime256v1"),
        ('[[authorities]]\nname = "issuing"\nparent = "issuing"', "authorities[0].parent: an authority keeps its parent"),
        ('[[authorities]]\nname = "issuing"\ncrlDeltas = true', "authorities[0].crlDeltas: crlUrls needs an address of plain HTTP"),
        ('[[authorities]]\nname = "issuing"\nscep = true', "authorities[0].scep: this authority was made without a key for SCEP"),
        ('[[applications]]\nname = "a"\nprofiles = ["web"]\nenrollment.web.est = { label = "shop.web" }', 'applications[0].enrollment.web.est.label: "shop.web" is the label of shop/web already'),
        ('[[policies]]\nname = "p"\npreset = "x"', 'policies[0].preset: "x" is not known'),
    ],
)  # fmt: skip
async def test_a_declaration_that_contradicts_what_is_there_changes_nothing(installation, text, problem):
    await installation.apply(declaration())
    before = await installation.catalogue()
    with pytest.raises(DeclarationError) as caught:
        await installation.apply(read(text))
    assert [each for each in caught.value.problems if each.startswith(problem)], caught.value.problems
    assert await installation.catalogue() == before
    assert len(installation.ceremonies.asked) == 1


async def test_a_subject_may_be_written_in_any_order(installation):
    await installation.apply(declaration())
    turned = read('[[authorities]]\nname = "issuing"\nsubject = "CN=issuing,O=Example"')
    assert await installation.differences(turned) == []


async def test_a_label_can_pass_from_one_pair_to_another(installation):
    await installation.apply(declaration(doors="est = { label = 'pki' }"))
    two = declaration(doors="est = {}").applications[0]
    other = read('[[applications]]\nname = "b"\nprofiles = ["web"]\nenrollment.web.est = { label = "pki" }')
    await installation.apply(replace_applications(other, [two, *other.applications]))
    assert (await installation.catalogue()).pair_by_label("pki").application.name == "b"


def replace_applications(declared, applications):
    import msgspec

    return msgspec.structs.replace(declared, applications=applications)


async def test_somebody_elses_change_meanwhile_is_a_conflict_and_nothing_is_saved(installation):
    async def meddle(declared, parent):
        other = installation.ceremonies
        manifest = await other(declared, parent)
        await installation.apply(read('[[policies]]\nname = "theirs"'))
        return manifest

    with pytest.raises(Refusal) as caught:
        await installation.apply(declaration(), ceremony=meddle)
    assert caught.value.reason is RefusalReason.CONFLICT
    found = await installation.catalogue()
    assert [each.name for each in found.policies] == ["theirs"]
    assert found.authorities == ()


async def test_a_ceremony_that_fails_leaves_nothing_behind(installation):
    async def broken(declared, parent):
        raise OSError("no token")

    with pytest.raises(OSError, match="no token"):
        await installation.apply(DEMO, ceremony=broken)
    assert (await installation.catalogue()).version == 0
    assert len(await installation.apply(DEMO)) == 9


async def test_no_secret_appears_in_what_is_said_or_written_down(installation):
    changes = await configure(
        installation.store, DEMO, ceremony=installation.ceremonies, actor="system", now=NOW, dice=installation.dice,
        hash_secret=hash_secret, verify_secret=verify_secret,
    )  # fmt: skip
    events = await installation.store.read(audit.entries)
    written = " ".join(map(repr, changes)) + " ".join(entry.event.detail for entry in events)
    assert "horse" not in written
    assert "hash of" not in written


async def test_real_hashes_are_recognised_again(tmp_path):
    """The passphrase of a second apply is checked against the stored argon2id hash: no change."""
    async with opened(tmp_path) as store:
        installation = Installation(store)

        async def apply(declared):
            return await configure(
                store, declared, ceremony=installation.ceremonies, actor="system", now=NOW, dice=installation.dice
            )

        assert await apply(declaration())
        assert await apply(declaration()) == []
        assert (await installation.catalogue()).pairs[0].settings.est.passphrase_hash.startswith("$argon2id$")


async def test_enrollment_settings_are_replaced_as_a_whole(installation):
    await installation.apply(declaration())
    pair = (await installation.catalogue()).pairs[0]
    await installation.apply(declaration(doors="acme = {}"))
    after = (await installation.catalogue()).pairs[0]
    assert after.settings.enabled() == {"acme"}
    assert replace(after, settings=pair.settings) == pair
