"""REST enrollment through the front, on a real store (D8, D9, D12, D13)."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.domain.access import ApplicationRole, Identity, IdentityKind, ProductRole
from gateway.domain.authority import AuthorityStatus
from gateway.domain.policy import Policy, SanRule
from gateway.domain.profile import Defaults
from gateway.domain.request import (
    CertificateRequest,
    KeyAlgorithm,
    ProofKind,
    Protocol,
    RequestStatus,
    SanType,
    SubjectAttribute,
    SubjectType,
)
from gateway.fronts.rest import rest_routes
from gateway.outbound.signer import SignerUnreachable
from gateway.store import access, certificates, requests
from gateway.store.unit import Unit
from tests.doubles.asgi import Answered
from tests.doubles.house import NOW, House, open_house
from tests.doubles.requests import csr

BASE = "/api/v1/cert-manager"
ADMIN, AUDITOR, STRANGER, PRODUCT = "mst_admin", "mst_auditor", "mst_stranger", "mst_product"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, rest_routes) as house:

        def unit(unit: Unit) -> None:
            for token, product, role in (
                (ADMIN, ProductRole.PRODUCT_MEMBER, ApplicationRole.ADMIN),
                (AUDITOR, ProductRole.PRODUCT_MEMBER, ApplicationRole.AUDITOR),
                (STRANGER, ProductRole.PRODUCT_MEMBER, None),
                (PRODUCT, ProductRole.PRODUCT_ADMIN, None),
            ):
                identity = Identity(token.removeprefix("mst_"), token, IdentityKind.MACHINE, product)
                access.create_identity(unit, identity, NOW)
                access.create_token(
                    unit,
                    f"token-{token}",
                    identity_id=identity.id,
                    sha256=hashlib.sha256(token.encode()).digest(),
                    expires_at=NOW + dt.timedelta(days=1),
                    at=NOW,
                )
                if role is not None:
                    access.save_member(unit, "application", identity.id, role, NOW)

        await house.store.write(unit)
        yield house


async def ask(
    house: House, method: str, path: str, document: object = None, token: str | None = ADMIN, **how: object
) -> Answered:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = b"" if document is None else json.dumps(document).encode()
    return await house.ask(method, BASE + path, body, **{"headers": headers, **how})


MANAGED = {
    "profileId": "profile",
    "applicationId": "application",
    "attributes": {
        "commonName": "api.example.com",
        "ttl": "90d",
        "keyAlgorithm": "RSA_2048",
        "altNames": [{"type": "DNS", "value": "api.example.com"}],
    },
    "metadata": [{"key": "env", "value": "production"}],
}


def with_csr(**changes: object) -> dict[str, object]:
    pem = x509.load_der_x509_csr(csr())
    from cryptography.hazmat.primitives.serialization import Encoding

    text = pem.public_bytes(Encoding.PEM).decode()
    return {"profileName": "device", "applicationName": "demo", "csr": text, **changes}


async def test_the_documented_body_gives_a_certificate_with_a_key_of_its_own(house: House):
    """D12, as written."""
    answer = await ask(house, "POST", "/certificates", MANAGED)
    assert answer.status == 200, answer.text
    document = json.loads(answer.body)
    certificate = document["certificate"]
    leaf = x509.load_pem_x509_certificate(certificate["certificate"].encode())
    key = load_pem_private_key(certificate["privateKey"].encode(), None)
    assert key.public_key() == leaf.public_key()
    assert leaf.not_valid_after_utc - NOW <= dt.timedelta(days=90)
    assert certificate["serialNumber"] == f"{leaf.serial_number:x}"
    assert document["status"] == "issued"
    found = await house.store.read(lambda unit: certificates.find(unit, certificate["certificateId"]))
    assert found is not None
    assert found.managed_key == b"sealed"
    assert found.metadata == (("env", "production"),)
    assert found.request_id == document["certificateRequestId"]


async def test_a_private_key_is_in_nobodys_cache_and_in_no_log(house: House, caplog: pytest.LogCaptureFixture):
    """D17: secrets never appear."""
    with caplog.at_level("DEBUG"):
        answer = await ask(house, "POST", "/certificates", MANAGED)
    assert answer.header("Cache-Control") == "no-store"
    assert "PRIVATE KEY" in answer.text
    assert "PRIVATE KEY" not in caplog.text
    assert ADMIN not in caplog.text


async def test_a_csr_gives_a_certificate_without_a_key(house: House):
    """D12: by names instead of ids."""
    document = with_csr(attributes={"ttl": "30d"}, metadata=[{"key": "a", "value": "b"}])
    answer = await ask(house, "POST", "/certificates", document)
    assert answer.status == 200, answer.text
    certificate = json.loads(answer.body)["certificate"]
    assert "privateKey" not in certificate
    leaf = x509.load_pem_x509_certificate(certificate["certificate"].encode())
    # RFC 5280, 4.1.2.5: both ends belong to the validity.
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc + dt.timedelta(seconds=1) == dt.timedelta(days=30)
    (plan,) = house.signer.signed
    assert (plan.proof.kind, plan.proof.subject) == ("api-token", ADMIN)


async def test_a_csr_may_be_base64_of_der(house: House):
    answer = await ask(house, "POST", "/certificates", with_csr(csr=base64.b64encode(csr()).decode()))
    assert answer.status == 200


async def test_the_default_key_is_the_profiles(house: House):
    """D5."""
    await house.profile(defaults=Defaults(key_algorithm=KeyAlgorithm.RSA_2048))
    document = {"profileId": "profile", "applicationId": "application", "attributes": {"commonName": "a"}}
    await ask(house, "POST", "/certificates", document)
    assert house.signer.signed[-1].key.algorithm is KeyAlgorithm.RSA_2048
    cleared = {**document, "attributes": {"commonName": "a", "keyAlgorithm": None}}
    await ask(house, "POST", "/certificates", cleared)
    assert house.signer.signed[-1].key.algorithm is KeyAlgorithm.EC_P256


async def test_a_subject_that_is_left_out_is_the_profiles_and_null_clears_it(house: House):
    """D5."""
    organization = SubjectAttribute(SubjectType.ORGANIZATION, "Example")
    country = SubjectAttribute(SubjectType.COUNTRY, "CH")
    await house.profile(defaults=Defaults(subject=(organization, country)))
    names = {"altNames": [{"type": "dns_name", "value": "a.example"}]}
    document = {"profileId": "profile", "applicationId": "application", "attributes": names}
    assert (await ask(house, "POST", "/certificates", document)).status == 200
    assert house.signer.signed[-1].subject == (organization, country)
    cleared = {**document, "attributes": {**names, "organization": None}}
    assert (await ask(house, "POST", "/certificates", cleared)).status == 200
    assert house.signer.signed[-1].subject == (country,)
    nameless = {**document, "attributes": {**names, "organization": None, "country": None}}
    assert (await ask(house, "POST", "/certificates", nameless)).status == 200
    assert house.signer.signed[-1].subject == ()
    assert house.signer.signed[-1].san_critical


@pytest.mark.parametrize(
    "authorization", [None, "Bearer mst_wrong", "Bearer", "Basic mst_admin", "mst_admin", f"Bearer {'x' * 300}"]
)
async def test_without_a_token_that_is_known_the_answer_is_401_and_says_how(house: House, authorization: str | None):
    headers = {"Content-Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    for method, path in (("POST", "/certificates"), ("GET", "/certificate-requests")):
        answer = await house.ask(method, BASE + path, json.dumps(MANAGED).encode(), headers=headers)
        assert answer.status == 401
        assert (answer.header("WWW-Authenticate") or "").startswith("Bearer")
        assert answer.header("Content-Type") == "application/problem+json"


async def test_an_expired_token_is_unknown(house: House):
    """D10."""
    house.now += dt.timedelta(days=1, seconds=1)
    assert (await ask(house, "GET", "/certificate-requests")).status == 401


async def test_a_token_or_a_role_that_ended_serves_nobody_after_a_second(house: House):
    """D10; and a new one serves at once."""
    assert (await ask(house, "POST", "/certificates", MANAGED)).status == 200
    await house.store.write(lambda unit: access.remove_member(unit, "application", "admin"))
    house.now += dt.timedelta(seconds=1)
    assert (await ask(house, "POST", "/certificates", MANAGED)).status == 404
    await house.store.write(
        lambda unit: access.save_member(unit, "application", "admin", ApplicationRole.ADMIN, house.now)
    )
    assert (await ask(house, "POST", "/certificates", MANAGED)).status == 200
    await house.store.write(lambda unit: access.delete_token(unit, "token-mst_admin"))
    house.now += dt.timedelta(seconds=1)
    assert (await ask(house, "POST", "/certificates", MANAGED)).status == 401
    digest = hashlib.sha256(ADMIN.encode()).digest()
    await house.store.write(
        lambda unit: access.create_token(
            unit, "again", identity_id="admin", sha256=digest, expires_at=None, at=house.now
        )
    )
    assert (await ask(house, "POST", "/certificates", MANAGED)).status == 200


async def test_a_token_is_not_read_again_within_a_second_and_ends_with_its_term_all_the_same(
    house: House, mock_clock: trio.testing.MockClock
):
    """D10."""
    house.now += dt.timedelta(days=1, seconds=-0.5)
    assert (await ask(house, "GET", "/certificate-requests")).status == 200
    await house.store.write(lambda unit: access.delete_token(unit, "token-mst_admin"))
    assert (await ask(house, "GET", "/certificate-requests")).status == 200
    house.now += dt.timedelta(seconds=0.5)
    assert (await ask(house, "GET", "/certificate-requests")).status == 401


async def test_a_tokens_last_use_is_written_down_once_a_minute(house: House):
    """D10."""
    seen = []
    for _ in range(3):
        for _ in range(2):
            house.now += dt.timedelta(seconds=31)
            await ask(house, "GET", "/certificate-requests")
            (token,) = await house.store.read(lambda unit: access.tokens(unit, "admin"))
            seen.append(token.last_used_at)
    assert len(set(seen)) == 3
    assert house.now - seen[-1] < dt.timedelta(minutes=1)


async def test_guessing_tokens_is_locked_out(house: House):
    for _ in range(10):
        assert (await ask(house, "GET", "/certificate-requests", token="mst_guess")).status == 401
    answer = await ask(house, "GET", "/certificate-requests")
    assert answer.status == 429
    assert int(answer.header("Retry-After") or "") > 0
    assert (await ask(house, "GET", "/certificate-requests", address="2001:db8::1")).status == 200


async def test_over_plain_http_no_token_is_looked_at(house: House):
    answer = await ask(house, "POST", "/certificates", MANAGED, scheme="http")
    assert answer.status == 403
    assert answer.header("WWW-Authenticate") is None


async def test_who_may_not_see_an_application_hears_the_same_as_if_there_were_none(house: House):
    there = await ask(house, "POST", "/certificates", MANAGED, token=STRANGER)
    nowhere = await ask(house, "POST", "/certificates", {**MANAGED, "applicationId": "nothing"}, token=STRANGER)
    assert there.status == nowhere.status == 404
    assert there.body == nowhere.body


@pytest.mark.parametrize("token", [AUDITOR, PRODUCT])
async def test_who_may_read_but_not_issue_is_told_so(house: House, token: str):
    """D9."""
    answer = await ask(house, "POST", "/certificates", MANAGED, token=token)
    assert answer.status == 403
    assert house.signer.signed == []


async def test_a_member_of_one_application_does_not_issue_in_another(house: House):
    answer = await ask(house, "POST", "/certificates", {**MANAGED, "applicationId": "other-application"})
    assert answer.status == 404


async def test_a_closed_door_is_named_to_those_who_may_open_it(house: House):
    await house.change(api=None)
    answer = await ask(house, "POST", "/certificates", MANAGED)
    assert answer.status == 403
    assert "REST" in json.loads(answer.body)["detail"]


async def test_a_disabled_authority_issues_nothing(house: House):
    house.pair = replace(house.pair, authority=replace(house.pair.authority, status=AuthorityStatus.DISABLED))
    await house.save(house.pair)
    answer = await ask(house, "POST", "/certificates", MANAGED)
    assert (answer.status, answer.header("Retry-After")) == (503, "300")


async def test_all_violations_come_together(house: House):
    """D1."""
    policy = Policy("policy", "ours", sans=(SanRule(SanType.DNS_NAME, allowed=("*.ours.example",)),))
    await house.profile(policy=policy)
    names = [{"type": "DNS", "value": "a.example"}, {"type": "DNS", "value": "b.example"}]
    document = {**MANAGED, "attributes": {"commonName": "a", "altNames": names}}
    answer = await ask(house, "POST", "/certificates", document)
    assert answer.status == 422
    violations = " ".join(json.loads(answer.body)["violations"])
    assert "a.example" in violations
    assert "b.example" in violations


async def test_a_signer_out_of_reach_is_a_503(house: House):
    house.signer.crash = SignerUnreachable("away")
    answer = await ask(house, "POST", "/certificates", MANAGED)
    assert answer.status == 503
    assert answer.header("Retry-After")


async def test_an_unexpected_failure_tells_nothing(house: House, caplog: pytest.LogCaptureFixture):
    house.signer.crash = ZeroDivisionError("secret detail")
    answer = await ask(house, "POST", "/certificates", MANAGED)
    assert answer.status == 500
    assert answer.header("Content-Type") == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text


async def test_a_body_over_the_cap_is_refused_in_the_apis_own_form(house: House):
    answer = await ask(house, "POST", "/certificates", {"x": "y" * 70_000})
    assert answer.status == 413
    assert answer.header("Content-Type") == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/certificates", "POST"),
        ("POST", "/certificate-requests", "GET, HEAD"),
        ("DELETE", "/certificate-requests/x", "GET, HEAD"),
        ("GET", "/certificate-requests/x/cancel", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(house: House, method: str, path: str, allow: str):
    answer = await ask(house, method, path)
    assert (answer.status, answer.header("Allow")) == (405, allow)
    assert answer.header("Content-Type") == "application/problem+json"


async def test_a_request_can_be_read_with_its_certificate_and_without_its_key(house: House):
    """D13."""
    created = json.loads((await ask(house, "POST", "/certificates", MANAGED)).body)
    path = f"/certificate-requests/{created['certificateRequestId']}"
    answer = await ask(house, "GET", path)
    found = json.loads(answer.body)["certificateRequest"]
    assert found["status"] == "issued"
    assert found["commonName"] == "api.example.com"
    assert found["certificate"]["certificate"] == created["certificate"]["certificate"]
    assert "privateKey" not in found["certificate"]
    assert (await ask(house, "GET", path, token=AUDITOR)).status == 200
    assert (await ask(house, "GET", path, token=PRODUCT)).status == 200


async def test_a_request_of_an_application_that_the_caller_may_not_see_is_not_there(house: House):
    created = json.loads((await ask(house, "POST", "/certificates", MANAGED)).body)
    theirs = await ask(house, "GET", f"/certificate-requests/{created['certificateRequestId']}", token=STRANGER)
    nothing = await ask(house, "GET", "/certificate-requests/nothing", token=STRANGER)
    assert theirs.status == nothing.status == 404
    assert theirs.body == nothing.body


async def test_a_search_shows_what_the_caller_may_read(house: House):
    """D13: newest first, in pages."""
    for name in ("a", "b", "c"):
        await ask(house, "POST", "/certificates", {**MANAGED, "attributes": {"commonName": name}})
        house.now += dt.timedelta(seconds=1)
    page = json.loads((await ask(house, "GET", "/certificate-requests?limit=2")).body)
    assert page["totalCount"] == 3
    assert [each["commonName"] for each in page["certificateRequests"]] == ["c", "b"]
    rest = json.loads((await ask(house, "GET", "/certificate-requests?limit=2&offset=2")).body)
    assert [each["commonName"] for each in rest["certificateRequests"]] == ["a"]
    assert json.loads((await ask(house, "GET", "/certificate-requests", token=PRODUCT)).body)["totalCount"] == 3
    assert json.loads((await ask(house, "GET", "/certificate-requests", token=STRANGER)).body)["totalCount"] == 0


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("applicationName=demo", 1),
        ("applicationId=application&profileName=device", 1),
        ("applicationName=other", 0),
        ("applicationId=other-application", 0),
        ("applicationName=nobody", 0),
        ("profileName=nothing", 0),
        ("profileId=profile", 1),
        ("status=issued", 1),
        ("status=failed", 0),
        ("search=api.example", 1),
    ],
)
async def test_a_search_can_be_narrowed(house: House, query: str, count: int):
    await ask(house, "POST", "/certificates", MANAGED)
    answer = await ask(house, "GET", f"/certificate-requests?{query}")
    assert json.loads(answer.body)["totalCount"] == count, answer.text


async def waiting(house: House) -> str:
    row = CertificateRequest(
        id="waiting",
        application_id="application",
        profile_id="profile",
        protocol=Protocol.API,
        status=RequestStatus.PENDING_APPROVAL,
        proof_kind=ProofKind.API_TOKEN,
        proof_subject="x",
        subject="CN=a\\,b,O=Example",
        sans=(),
        created_at=NOW,
        updated_at=NOW,
    )
    await house.store.write(lambda unit: requests.record(unit, row))
    return "/certificate-requests/waiting"


async def test_a_waiting_request_can_be_cancelled_once(house: House):
    """D13."""
    path = await waiting(house)
    answer = await ask(house, "POST", f"{path}/cancel")
    found = json.loads(answer.body)["certificateRequest"]
    assert (found["status"], found["commonName"]) == ("cancelled", "a,b")
    assert (await ask(house, "POST", f"{path}/cancel")).status == 409
    assert json.loads((await ask(house, "GET", path)).body)["certificateRequest"]["status"] == "cancelled"


async def test_only_those_who_may_issue_may_cancel(house: House):
    path = await waiting(house)
    assert (await ask(house, "POST", f"{path}/cancel", token=AUDITOR)).status == 403
    assert (await ask(house, "POST", f"{path}/cancel", token=STRANGER)).status == 404
    assert (await ask(house, "POST", "/certificate-requests/nothing/cancel")).status == 404


async def test_a_path_with_a_hidden_slash_is_nothing(house: House):
    assert (await ask(house, "GET", "/certificate-requests/a%2fb")).status == 404
