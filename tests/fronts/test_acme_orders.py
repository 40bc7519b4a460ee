"""ACME's orders at the door, on a real store: what makes them ready, invalid and issued (RFC 8555, 7.1.6 and 7.4)."""

from datetime import timedelta

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.domain.policy import Policy, SanRule
from gateway.domain.request import SanType
from gateway.fronts.limits import Limits
from gateway.jobs.validations import validate_challenges
from gateway.outbound.signer import SignerBusy, SignerLost
from gateway.store.unit import StoreUnavailable
from tests.doubles.acme_client import csr
from tests.doubles.shut import Shut
from tests.doubles.town import Counting, town


@pytest.fixture
async def here(tmp_path):
    async with town(tmp_path) as place:
        yield place


# The main road


async def test_names_that_the_policy_can_never_allow_are_refused_at_once(here):
    # A45: before anyone proves control of them in vain.
    rule = SanRule(SanType.DNS_NAME, allowed=("*.example.com",))
    await here.house.profile(policy=Policy("policy", "example only", sans=(rule,)))
    await here.client.register()
    answer = await here.client.order("www.example.com", "www.example.org", "192.0.2.1")
    assert (answer.status, answer.type) == (400, "rejectedIdentifier")
    assert len(answer.json["subproblems"]) == 2
    assert "www.example.org" in answer.json["detail"]
    assert here.rows("SELECT count(*) FROM acme_orders") == [(0,)]


async def test_a_pair_that_trusts_its_clients_has_orders_that_are_born_ready_and_says_so_in_the_audit(here):
    # A75, A128.
    await here.settings(skip_dns_ownership=True, skip_eab_binding=True)
    await here.client.register()
    order = await here.client.order("*.example.com", "example.com")
    assert order.json["status"] == "ready"
    final = await here.client.post(order.json["finalize"], {"csr": csr("*.example.com", "example.com")})
    assert final.json["status"] == "valid"
    ((detail,),) = here.rows("SELECT detail FROM audit WHERE action = 'order.create'")
    assert "ownership was not asked for" in detail
    assert here.server.seen == []


async def test_an_order_that_has_expired_is_invalid(here):
    # A46.
    await here.client.register()
    order = await here.ready_order("localhost")
    here.house.now += timedelta(hours=25)
    assert (await here.client.post(order.location)).json["status"] == "ready"
    here.house.now += timedelta(days=7)
    assert (await here.client.post(order.location)).json["status"] == "invalid"
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).type == "orderNotReady"


async def test_a_valid_authorization_serves_again_if_the_pair_says_so(here):
    # A50.
    await here.client.register()
    await here.issue("localhost")
    assert (await here.client.order("localhost")).json["status"] == "pending"
    await here.settings(authorization_reuse=timedelta(hours=1))
    again = await here.client.order("localhost")
    assert again.json["status"] == "ready"
    final = await here.client.post(again.json["finalize"], {"csr": csr("localhost")})
    assert final.json["status"] == "valid"
    mixed = await here.client.order("localhost", "a.localhost")
    assert mixed.json["status"] == "pending"
    here.house.now += timedelta(hours=2)
    assert (await here.client.order("localhost")).json["status"] == "pending"


async def test_a_deactivated_authorization_serves_nobody(here):
    # A59.
    await here.client.register()
    order = await here.ready_order("localhost")
    await here.settings(authorization_reuse=timedelta(hours=1))
    gone = await here.client.post(order.json["authorizations"][0], {"status": "deactivated"})
    assert gone.json["status"] == "deactivated"
    assert (await here.client.post(order.location)).json["status"] == "invalid"
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).status == 403
    assert (await here.client.order("localhost")).json["status"] == "pending"


# Challenges


async def test_a_wrong_answer_makes_the_order_invalid_and_says_why(here):
    # A62.
    here.wrong = True
    await here.client.register()
    order = await here.client.order("localhost")
    authorization = await here.client.prove(order.json)
    assert authorization["status"] == "invalid"
    error = authorization["challenges"][0]["error"]
    assert error["type"].endswith(":unauthorized")
    assert error["status"] == 403
    assert "wrong" not in error["detail"]
    assert (await here.client.post(order.location)).json["status"] == "invalid"


async def test_reading_a_challenge_starts_nothing(here):
    # A61: dehydrated and win-acme poll the challenge.
    await here.client.register()
    order = await here.client.order("localhost")
    authorization = (await here.client.post(order.json["authorizations"][0])).json
    assert (await here.client.post(authorization["challenges"][0]["url"])).json["status"] == "pending"
    await trio.sleep(0.05)
    assert here.server.seen == []


async def test_a_slow_server_leaves_the_challenge_processing_and_is_asked_once(here):
    # A60, A61, A55: the answer comes at once, the outcome later, the repeated POST changes nothing.
    here.hold = trio.Event()
    await here.client.register()
    order = await here.client.order("localhost")
    url = order.json["authorizations"][0]
    challenge = (await here.client.post(url)).json["challenges"][0]
    for _ in range(3):
        assert (await here.client.post(challenge["url"], {})).json["status"] == "processing"
    waiting = await here.client.post(url)
    assert waiting.json["status"] == "pending"
    assert 1 <= int(waiting.header("Retry-After")) <= 600
    here.hold.set()
    with trio.fail_after(60):
        while (await here.client.post(url)).json["status"] == "pending":
            await trio.sleep(0.01)
    assert (await here.client.post(order.location)).json["status"] == "ready"
    assert len(here.server.seen) == 1


async def test_a_validation_that_a_stop_cut_off_is_taken_up_again(tmp_path):
    # A87 in the small: what was `processing` is validated by the next start.
    async with town(tmp_path, validating=False) as here, trio.open_nursery() as first:
        await first.start(validate_challenges, here.house.resources, here.house.front.validations)
        here.hold = trio.Event()
        await here.client.register()
        order = await here.client.order("localhost")
        url = order.json["authorizations"][0]
        challenge = (await here.client.post(url)).json["challenges"][0]
        assert (await here.client.post(challenge["url"], {})).json["status"] == "processing"
        first.cancel_scope.cancel()
    async with town(tmp_path, validating=False) as again, trio.open_nursery() as second:
        again.client.key, again.client.kid = here.client.key, here.client.kid
        await second.start(validate_challenges, again.house.resources, again.house.front.validations)
        with trio.fail_after(60):
            while (await again.client.post(url)).json["status"] == "pending":
                await trio.sleep(0.01)
        assert (await again.client.post(url)).json["status"] == "valid"
        second.cancel_scope.cancel()


# Finalize


async def test_two_finalizes_at_once_are_one_issuance(here):
    # A82.
    await here.client.register()
    order = await here.ready_order("localhost")
    request = csr("localhost")
    answers = []

    async def finalize():
        answers.append(await here.client.post(order.json["finalize"], {"csr": request}, nonce=nonces.pop()))

    nonces = [await here.client.fresh_nonce() for _ in range(10)]
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(finalize)
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["status"] for answer in answers} <= {"valid", "processing"}
    assert len(here.house.signer.signed) == 1
    assert here.rows("SELECT count(*) FROM certificates WHERE source = 'issued'") == [(1,)]


async def test_two_finalizes_with_two_csrs_are_one_issuance(here):
    await here.client.register()
    order = await here.ready_order("localhost")
    nonces = [await here.client.fresh_nonce() for _ in range(4)]
    answers = []

    async def finalize(nonce):
        answers.append(await here.client.post(order.json["finalize"], {"csr": csr("localhost")}, nonce=nonce))

    async with trio.open_nursery() as nursery:
        for nonce in nonces:
            nursery.start_soon(finalize, nonce)
    assert len(here.house.signer.signed) == 1
    # Nobody is shown a certificate of another's key as if it were the one that he asked for.
    assert sorted(answer.status for answer in answers) == [200, 403, 403, 403]
    assert {answer.type for answer in answers if answer.status == 403} == {"orderNotReady"}


async def test_the_same_finalize_again_gets_the_same_certificate(here):
    # A90; another CSR for the same order is refused.
    await here.client.register()
    order = await here.ready_order("localhost")
    request = csr("localhost")
    first = await here.client.post(order.json["finalize"], {"csr": request})
    again = await here.client.post(order.json["finalize"], {"csr": request})
    assert first.json["certificate"] == again.json["certificate"]
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).type == "orderNotReady"


async def test_an_order_that_is_not_ready_is_not_finalized(here):
    # A81.
    await here.client.register()
    order = await here.client.order("localhost")
    answer = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert (answer.status, answer.type) == (403, "orderNotReady")
    assert here.house.signer.signed == []


async def test_a_busy_signer_is_a_passing_fault_and_the_order_stays_ready(here):
    # A89: a 4xx would be final for cert-manager.
    await here.client.register()
    order = await here.ready_order("localhost")
    here.house.signer.failures = [SignerBusy(7)]
    answer = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert (answer.status, answer.type, answer.header("Retry-After")) == (503, "serverInternal", "7")
    assert (await here.client.post(order.location)).json["status"] == "ready"
    final = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert final.json["status"] == "valid"


async def test_a_worker_that_dies_is_followed_by_another(here):
    await here.client.register()
    order = await here.ready_order("localhost")
    here.house.signer.failures = [SignerLost("gone")]
    final = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert final.json["status"] == "valid"
    serials = here.rows("SELECT status FROM serials ORDER BY at, status")
    assert sorted(status for (status,) in serials) == ["burnt", "issued"]


async def test_a_policys_refusal_leaves_the_order_ready(here):
    # A89.
    await here.client.register()
    order = await here.ready_order("localhost")
    key_too_small = rsa.generate_private_key(65537, 1024)
    answer = await here.client.post(order.json["finalize"], {"csr": csr("localhost", key=key_too_small)})
    assert (answer.status, answer.type) == (400, "badCSR")
    await here.house.profile(policy=Policy("policy", "RSA only", key_algorithms=()))
    answer = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert (answer.status, answer.type) == (400, "badCSR")
    assert (await here.client.post(order.location)).json["status"] == "ready"


async def test_names_that_nobody_proved_are_not_certified(here):
    # A84.
    await here.client.register()
    order = await here.ready_order("localhost")
    answer = await here.client.post(order.json["finalize"], {"csr": csr("localhost", "evil.example")})
    assert answer.type == "badCSR"
    assert here.house.signer.signed == []


# When things go wrong


async def test_a_bug_is_anonymous_and_has_a_nonce(here, monkeypatch):
    # A105.
    await here.client.register()

    async def broken(*_):
        raise RuntimeError("the secret of the house")

    object.__setattr__(here.house.resources, "store", Counting(here.house.store, broken))
    answer = await here.client.order("localhost")
    assert (answer.status, answer.type) == (500, "serverInternal")
    assert answer.nonce
    assert "secret" not in answer.json["detail"]


async def test_a_store_that_is_away_is_a_passing_fault(here):
    # A106.
    await here.client.register()

    async def away(*_):
        raise StoreUnavailable("disk full")

    object.__setattr__(here.house.resources, "store", Counting(here.house.store, away))
    answer = await here.client.order("localhost")
    assert (answer.status, answer.type) == (503, "serverInternal")
    assert int(answer.header("Retry-After")) <= 600


async def test_a_body_in_pieces_is_cut_at_the_cap(here):
    # A17: while it streams, whatever its length says.
    here.house.set_front(limits=Limits(acme_body=1000))
    answer = await here.house.ask("POST", "/acme/demo/device/new-order", [b"x" * 600, b"x" * 600, b"x" * 600])
    assert answer.status == 413
    assert answer.header("Replay-Nonce")


async def test_a_gateway_that_sheds_load_says_when_to_come_back(here):
    here.house.set_front(limits=Limits(admission=Shut(9)))
    answer = await here.house.ask("POST", "/acme/demo/device/new-order", b"{}")
    assert (answer.status, answer.header("Retry-After")) == (503, "9")
    assert answer.header("Replay-Nonce")


async def test_without_the_job_nothing_is_validated_and_the_client_is_told_to_wait(tmp_path):
    async with town(tmp_path, validating=False) as here:
        await here.client.register()
        order = await here.client.order("localhost")
        challenge = (await here.client.post(order.json["authorizations"][0])).json["challenges"][0]
        answer = await here.client.post(challenge["url"], {})
        assert answer.status == 503
        assert answer.header("Retry-After")
