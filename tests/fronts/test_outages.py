"""Store, signer or authority out of reach: every front says so in its own form, and when to come back."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from gateway.domain.access import Identity, IdentityKind, ProductRole
from gateway.domain.authority import AuthorityStatus
from gateway.fronts.est import est_routes
from gateway.fronts.limits import Limits
from gateway.fronts.rest import rest_routes
from gateway.fronts.scep import scep_routes
from gateway.outbound.signer import SignerUnreachable
from gateway.store import access
from gateway.store.unit import Store, StoreBusy, StoreUnavailable, SurveyTooLong, Unit
from tests.doubles.asgi import Answered
from tests.doubles.house import CHALLENGE, PASSPHRASE, House, open_house, rsa_key
from tests.doubles.requests import csr
from tests.doubles.scep_client import ScepClient, certification_request, self_signed
from tests.doubles.shut import Shut


class StoreAway:
    """A store that has `error` for everybody."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def read(self, work: object) -> object:
        raise self.error

    async def write(self, work: object, *, shielded: bool = False) -> object:
        raise self.error


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    def make(front):
        return [*est_routes(front), *scep_routes(front), *rest_routes(front)]

    async with open_house(tmp_path, make) as house:
        yield house


def take_away(house: House, error: Exception) -> None:
    house.set_front(resources=replace(house.resources, store=StoreAway(error)))


async def est(house: House) -> Answered:
    credentials = base64.b64encode(f"dev1:{PASSPHRASE}".encode()).decode()
    headers = {"Content-Type": "application/pkcs10", "Authorization": f"Basic {credentials}"}
    return await house.ask("POST", "/est/demo/device/simpleenroll", csr(), headers=headers)


async def scep(house: House) -> Answered:
    key = rsa_key(1)
    request = certification_request(key, challenge=CHALLENGE, dns=("device-1.example",))
    ra = x509.load_der_x509_certificate(house.issuer.ra_certificate)
    message = ScepClient(key, self_signed(key)).pki_message(request, ra)
    return await house.ask("POST", "/scep/demo/device?operation=PKIOperation", message)


async def rest(house: House) -> Answered:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer mst_x"}
    return await house.ask("POST", "/api/v1/cert-manager/certificates", b"{}", headers=headers)


FORMS = {"est": "text/plain; charset=utf-8", "scep": "text/plain; charset=utf-8", "rest": "application/problem+json"}
DOORS = {"est": est, "scep": scep, "rest": rest}


@pytest.mark.parametrize("door", sorted(DOORS))
@pytest.mark.parametrize("error", [StoreBusy("full"), StoreUnavailable("secret detail")])
async def test_a_store_that_is_away_is_a_503_in_the_fronts_own_form(house: House, door: str, error: Exception):
    await est(house)  # the passphrase is remembered, so that the store is what is missing
    take_away(house, error)
    answer = await DOORS[door](house)
    assert answer.status == 503
    assert int(answer.header("Retry-After") or "") > 0
    assert answer.header("Content-Type") == FORMS[door]
    assert "secret" not in answer.text
    assert house.signer.signed == house.signer.signed[:1]


class Searched:
    """A store whose reads by key are answered, and whose surveys fail."""

    def __init__(self, store: Store, error: Exception) -> None:
        self.read, self.write, self._error = store.read, store.write, error

    async def survey(self, work: object, *, seconds: float = 0) -> object:
        raise self._error


@pytest.mark.parametrize(
    ("error", "after", "sentence"),
    [(StoreBusy("full"), "1", "the store is busy"), (SurveyTooLong(15), None, "longer than 15 seconds and was ended")],
)
async def test_a_search_that_is_too_much_is_a_503_that_says_what_to_do(
    house: House, error: Exception, after: str | None, sentence: str
):
    """P16: a search is a survey, so that it holds up nobody else, and it ends."""
    digest = hashlib.sha256(b"mst_x").digest()

    def admin(unit: Unit) -> None:
        identity = Identity("admin", "admin", IdentityKind.MACHINE, ProductRole.PRODUCT_ADMIN)
        access.create_identity(unit, identity, house.now)
        access.create_token(unit, "token", identity_id="admin", sha256=digest, expires_at=None, at=house.now)

    await house.store.write(admin)
    house.set_front(resources=replace(house.resources, store=Searched(house.store, error)))
    url = "/api/v1/cert-manager/certificate-requests?search=a"
    answer = await house.ask("GET", url, headers={"Authorization": "Bearer mst_x"})
    assert (answer.status, answer.header("Retry-After")) == (503, after)
    assert sentence in json.loads(answer.text)["detail"]


@pytest.mark.parametrize("door", ["est", "scep"])
async def test_a_signer_that_is_away_is_a_503_in_the_fronts_own_form(house: House, door: str):
    house.signer.crash = SignerUnreachable("away")
    answer = await DOORS[door](house)
    assert (answer.status, answer.header("Content-Type")) == (503, FORMS[door])
    assert answer.header("Retry-After")


@pytest.mark.parametrize("door", ["est", "scep"])
async def test_an_authority_that_does_not_issue_is_a_503(house: House, door: str):
    authority = replace(house.pair.authority, status=AuthorityStatus.DISABLED)
    await house.save(replace(house.pair, authority=authority))
    answer = await DOORS[door](house)
    assert (answer.status, answer.header("Retry-After")) == (503, "300")
    assert answer.header("Content-Type") == FORMS[door]


@pytest.mark.parametrize("operation", ["GetCACert", "PKIOperation"])
async def test_scep_without_an_ra_is_a_503(house: House, operation: str):
    authority = replace(house.pair.authority, ra_key=None, ra_certificate=None)
    await house.save(replace(house.pair, authority=authority))
    if operation == "PKIOperation":
        answer = await scep(house)
    else:
        answer = await house.ask("GET", f"/scep/demo/device?operation={operation}")
    assert answer.status == 503
    assert answer.header("Retry-After")


@pytest.mark.parametrize("door", sorted(DOORS))
async def test_load_can_be_shed_at_every_door(house: House, door: str):
    """E107, S120."""
    house.set_front(limits=Limits(admission=Shut(3)))
    answer = await DOORS[door](house)
    assert (answer.status, answer.header("Retry-After")) == (503, "3")
    assert answer.header("Content-Type") == FORMS[door]


async def test_a_lookup_of_a_token_that_fails_counts_as_no_guess(house: House):
    take_away(house, StoreUnavailable("away"))
    for _ in range(20):
        assert (await rest(house)).status == 503


async def test_a_wrong_credential_that_cannot_be_recorded_is_still_wrong(
    house: House, caplog: pytest.LogCaptureFixture
):
    take_away(house, StoreUnavailable("away"))
    headers = {"Content-Type": "application/pkcs10", "Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
    answer = await house.ask("POST", "/est/demo/device/simpleenroll", csr(), headers=headers)
    assert answer.status == 401
    assert "could not be recorded" in caplog.text


async def test_problems_have_a_title_a_status_and_a_sentence(house: House):
    """RFC 9457, 3.1."""
    document = json.loads((await rest(house)).body)
    assert (document["title"], document["status"]) == ("Unauthorized", 401)
    assert document["detail"]
