"""A whole gateway in one process: every front on a real SQLite store, with an authority and an RA in memory.

What stands in for the signer's processes signs at once; everything above it is the real thing.
"""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from starlette.routing import Router

from gateway.actions.passphrase import hash_passphrase
from gateway.actions.resources import Resources
from gateway.domain.application import Application, EstSettings, Pair, ScepSettings
from gateway.domain.authority import Authority
from gateway.domain.profile import Profile
from gateway.fronts.front import Front, Urls
from gateway.outbound.signer import ENTRY, Status, entry
from gateway.store import catalogue
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, Unit, open_store
from signer.contract import messages
from signer.issuance.issuer import issuer_of
from signer.issuance.ocsp import Speaker, sign_ocsp
from signer.issuance.responder import Responders
from signer.keystore.key import Ceiling, KeyKind, StoredKey
from tests.doubles.asgi import Answered, ask
from tests.doubles.issuer import NOW, Issuer, SignerDouble, dice, pair

PASSPHRASE = "correct horse battery"
REASONS = dict(zip((1, 2, 3, 4, 5, 6, 9, 10, 8), list(x509.ReasonFlags)[1:], strict=True))
CHALLENGE = "staple-staple-staple"
USER = "dev1"


@cache
def hashed(text: str) -> str:
    """Argon2 is slow on purpose: once for all tests."""
    return hash_passphrase(text)


@cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """An RSA-2048 key; the same for the same number, since making one takes long."""
    return rsa.generate_private_key(65537, 2048)


class HouseIssuer(Issuer):
    """An issuer with an RA for SCEP."""

    def __init__(self, name: str = "Test Root") -> None:
        super().__init__(name)
        self.ra_key = rsa_key()
        usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
        certificate = (
            x509.CertificateBuilder(
                self.name,
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} RA")]),
                self.ra_key.public_key(),
                x509.random_serial_number(),
                NOW - dt.timedelta(days=1),
                NOW + dt.timedelta(days=365),
            )
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.ra_certificate = certificate.public_bytes(Encoding.DER)
        self.authority: Authority = replace(self.authority, ra_key="test-ra", ra_certificate=self.ra_certificate)


class HouseSigner(SignerDouble):
    """All verbs, done there and then with the issuer's keys. `crash` is raised by each of them while it is set."""

    issuer: HouseIssuer
    crash: Exception | None = None

    def __init__(self, issuer: HouseIssuer) -> None:
        super().__init__(issuer)
        self.vouched: list[tuple[str, list[Status]]] = []

    lists = 0

    async def issue(self, plan, pair, *, ticket):
        if self.crash:
            raise self.crash
        return await super().issue(plan, pair, ticket=ticket)

    async def unwrap(self, ra_key: str, wrapped: bytes, algorithm: str, length: int, *, share: str) -> bytes:
        assert ra_key == "test-ra"
        if self.crash:
            raise self.crash
        oaep = {"oaep-sha1": hashes.SHA1, "oaep-sha256": hashes.SHA256}.get(algorithm)
        scheme = padding.OAEP(padding.MGF1(oaep()), oaep(), None) if oaep else padding.PKCS1v15()
        return self.issuer.ra_key.decrypt(wrapped, scheme)

    async def sign_attributes(self, ra_key: str, attributes: bytes, digest: str, *, share: str) -> bytes:
        assert ra_key == "test-ra"
        algorithm = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
        chosen = algorithm[digest]()
        hasher = hashes.Hash(chosen)
        hasher.update(attributes)
        return self.issuer.ra_key.sign(hasher.finalize(), padding.PKCS1v15(), Prehashed(chosen))

    async def sign_crl(
        self,
        issuer: str,
        *,
        number: int,
        this_update: int,
        next_update: int,
        entries: bytes,
        names=(),
        base_number=None,
        freshest=(),
    ) -> bytes:
        if self.crash:
            raise self.crash
        builder = x509.CertificateRevocationListBuilder(
            self.issuer.name,
            dt.datetime.fromtimestamp(this_update, dt.UTC),
            dt.datetime.fromtimestamp(next_update, dt.UTC),
        ).add_extension(x509.CRLNumber(number), critical=False)
        for serial, when, reason in ENTRY.iter_unpack(entries):
            assert reason != 8 or base_number is not None  # RFC 5280, 5.3.1
            entry = x509.RevokedCertificateBuilder(
                int.from_bytes(serial, "big"), dt.datetime.fromtimestamp(when, dt.UTC)
            )
            if reason:
                entry = entry.add_extension(x509.CRLReason(REASONS[reason]), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        if names:
            point = [x509.UniformResourceIdentifier(each) for each in names]
            builder = builder.add_extension(
                x509.IssuingDistributionPoint(point, None, False, False, None, False, False), critical=True
            )
        if base_number is not None:
            assert base_number < number
            assert not freshest
            builder = builder.add_extension(x509.DeltaCRLIndicator(base_number), critical=True)
        if freshest:
            where = [x509.UniformResourceIdentifier(each) for each in freshest]
            builder = builder.add_extension(
                x509.FreshestCRL([x509.DistributionPoint(where, None, None, None)]), critical=False
            )
        self.lists += 1
        return builder.sign(self.issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    async def sign_ocsp(self, issuer: str, statuses, *, share: str, **times) -> bytes:
        """The signer's own room, with a responder for the issuer's key."""
        self.vouched.append((share, list(statuses)))
        await trio.lowlevel.checkpoint()
        if self.crash:
            raise self.crash
        key = StoredKey(
            issuer,
            KeyKind.ISSUER,
            self.issuer.key,
            (x509.load_der_x509_certificate(self.issuer.certificate),),
            Ceiling(max_validity=0),
        )
        by = issuer_of(key)
        now = times["produced_at"]
        verb = messages.SignOcsp(issuer, entries=[entry(each) for each in statuses], **times)
        responder = Responders(dice, lambda name, serial, der: None).of(by, now)
        return sign_ocsp(Speaker(by), responder, verb, now=now)

    async def generate_key(self, algorithm: str, *, share: str) -> messages.GeneratedKey:
        if self.crash:
            raise self.crash
        key = {
            "EC_prime256v1": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RSA_2048": lambda: rsa_key(9),
        }[algorithm]()
        return messages.GeneratedKey(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            b"sealed",
        )


class House:
    """Application `demo` with profile `device`, and `other` with the same profile; every door of `demo` is open."""

    def __init__(self, store: Store, make_routes) -> None:
        self.issuer = HouseIssuer()
        self.signer = HouseSigner(self.issuer)
        self.store = store
        self.now = NOW
        open_doors = replace(
            pair(self.issuer).settings,
            est=EstSettings(passphrase_hash=hashed(PASSPHRASE)),
            scep=ScepSettings(challenge_hash=hashed(CHALLENGE)),
        )
        self.pair = replace(pair(self.issuer), settings=open_doors)
        self.other = replace(self.pair, application=Application("other-application", "other", NOW))
        self.pairs = [self.pair, self.other]
        self.catalogue: Catalogue | None = None
        self.resources = Resources(store, self.signer, self._catalogue, lambda: self.now, dice)
        self.front = Front(self.resources, Urls("https://localhost:8443", "http://localhost:8080"))
        self._make_routes = make_routes
        self.app = Router(make_routes(self.front), redirect_slashes=False)

    def _catalogue(self) -> Catalogue:
        assert self.catalogue is not None
        return self.catalogue

    def set_front(self, **changes: object) -> None:
        """The same house with other limits or another readiness."""
        self.front = replace(self.front, **changes)
        self.app = Router(self._make_routes(self.front), redirect_slashes=False)

    async def save(self, *pairs: Pair) -> None:
        """Write pairs into the store and take the catalogue up again."""

        def unit(unit: Unit) -> None:
            for each in pairs:
                catalogue.save_authority(unit, each.authority)
                catalogue.save_policy(unit, each.profile.policy)
                catalogue.save_profile(unit, each.profile)
                catalogue.save_application(unit, each.application)
                catalogue.save_settings(unit, each.application.id, each.profile.id, each.settings)

        await self.store.write(unit)
        self.catalogue = await self.store.read(catalogue.load)

    async def change(self, **settings: object) -> None:
        """Change the settings of `demo`."""
        self.pair = replace(self.pair, settings=replace(self.pair.settings, **settings))
        await self.save(self.pair)

    async def profile(self, **changes: object) -> None:
        """Change the profile."""
        changed: Profile = replace(self.pair.profile, **changes)
        self.pair = replace(self.pair, profile=changed)
        await self.save(self.pair)

    async def ask(self, method: str, target: str, body: bytes | list[bytes] = b"", **how: object) -> Answered:
        return await ask(self.app, method, target, body, **how)


@asynccontextmanager
async def open_house(folder: Path, make_routes=None) -> AsyncIterator[House]:
    """A house whose store lies in `folder`."""
    if make_routes is None:
        from gateway.fronts.routes import routes

        make_routes = routes
    async with open_store(f"sqlite:///{folder}/store.db") as store:
        house = House(store, make_routes)
        await house.save(*house.pairs)
        yield house
