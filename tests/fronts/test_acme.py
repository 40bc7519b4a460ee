"""ACME's door, on a real store, with a real server to be validated: RFC 8555 from the directory to the certificate."""

import json

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.doubles.acme_client import AcmeClient, csr
from tests.doubles.town import Counting, town


@pytest.fixture
async def here(tmp_path):
    async with town(tmp_path) as place:
        yield place


# The main road


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
)
async def test_from_the_directory_to_the_certificate(tmp_path, make):
    async with town(tmp_path, key=make()) as here:
        client = here.client
        directory = await client.call("GET", f"{client.base}/directory")
        assert directory.status == 200
        assert directory.json["newOrder"] == f"{client.base}/new-order"
        assert (await client.register(contact=["mailto:admin@example.com"])).status == 201
        order = await client.order("localhost")
        assert (order.status, order.json["status"]) == (201, "pending")
        (url,) = order.json["authorizations"]
        authorization = await client.post(url)
        (challenge,) = authorization.json["challenges"]
        answered = await client.post(challenge["url"], {})
        assert answered.json["url"] == challenge["url"]  # certbot compares (A60)
        assert f'<{url}>;rel="up"' in [value for name, value in answered.headers if name == "Link"]
        # performance.md, P4: the outcome is there within the POST's own moment of waiting.
        assert answered.json["status"] == "valid"
        ready = await client.post(order.location)
        assert ready.json["status"] == "ready"
        key = ec.generate_private_key(ec.SECP256R1())
        final = await client.post(order.json["finalize"], {"csr": csr("localhost", key=key)})
        assert (final.status, final.json["status"], final.location) == (200, "valid", order.location)
        chain = await client.post(final.json["certificate"])
        assert chain.header("Content-Type") == "application/pem-certificate-chain"
        (leaf,) = x509.load_pem_x509_certificates(chain.body)  # the double's issuer is a root, and roots stay at home
        assert leaf.public_key() == key.public_key()
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]


async def test_who_waits_for_a_strangers_server_is_not_under_way(here):
    # P16: a silent host of its own choice would let anybody make the gateway look busy.
    await here.client.register()
    here.hold = trio.Event()
    order = await here.client.order("localhost")
    (challenge,) = (await here.client.post(order.json["authorizations"][0])).json["challenges"]
    admission = here.house.front.limits.admission

    async def answer():
        told.append((await here.client.post(challenge["url"], {})).json["status"])

    told = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with trio.fail_after(60):
            while not here.house.front.validations.under_way:
                await trio.sleep(0.001)
        assert (admission.going, told) == (0, [])
        here.hold.set()
    assert told == ["valid"]
    assert admission.going == 0


async def test_an_issuance_with_a_validation_costs_four_commits(here):
    # P11: newOrder; the challenge, pending to valid; the reserved serial with the claim; the certificate with its order.
    await here.client.register()
    commits = []
    write = here.house.store.write

    async def counted(work, **how):
        commits.append(work)
        return await write(work, **how)

    object.__setattr__(here.house.resources, "store", Counting(here.house.store, counted))
    final = await here.issue("localhost")
    assert final.json["status"] == "valid"
    assert len(commits) == 4


async def test_an_address_is_certified(here):
    # A69; RFC 8738.
    await here.client.register()
    order = await here.ready_order("127.0.0.1")
    assert (await here.client.post(order.location)).json["status"] == "ready"


async def test_everything_leaves_a_trace(here):
    # A112, D17: who, what, where to, and how it ended; secrets never.
    await here.client.register()
    await here.issue("localhost")
    events = here.rows("SELECT action, outcome, detail FROM audit ORDER BY position")
    actions = [event[0] for event in events]
    wanted = ["account.create", "order.create", "challenge.validate", "certificate.request", "certificate.issue"]
    assert [action for action in actions if action in wanted] == wanted
    assert any("at 127.0.0.1" in detail for action, _, detail in events if action == "challenge.validate")
    assert not any(here.client.key.thumbprint in detail for _, _, detail in events)


# Nonces on everything


async def test_every_answer_has_a_nonce_and_is_not_stored(here):
    # A5, A6: all statuses, known pair or not.
    client = here.client
    answers = [
        await client.call("GET", f"{client.base}/directory"),
        await client.call("HEAD", f"{client.base}/new-nonce"),
        await client.call("GET", f"{client.base}/new-nonce"),
        await client.call("GET", f"{client.base}/nowhere"),
        await client.call("PUT", f"{client.base}/new-order"),
        await client.call("POST", f"{client.base}/new-order", b"{}"),
        await client.call("POST", f"{client.base}/new-order", b"{}", {"Content-Type": "application/jose+json"}),
        await client.call("POST", f"{client.base}/new-order", b"x" * 70_000),
        await client.call("POST", f"{client.origin}/acme/demo/nowhere/new-order", b"{}"),
        await client.call("GET", f"{client.origin}/acme/nobody/device/directory"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 204, 404, 405, 415, 400, 413, 404, 404]
    for answer in answers:
        assert answer.nonce
        assert answer.header("Cache-Control") == "no-store"
        if answer.status >= 400:
            assert answer.header("Content-Type") == "application/problem+json"
            assert answer.json["status"] == answer.status
    assert len({answer.nonce for answer in answers}) == len(answers)


async def test_a_spent_nonce_is_refused_and_the_next_one_works(here):
    # A9: acme.sh looks for the words; certbot tries once more and no more.
    nonce = await here.client.fresh_nonce()
    await here.client.register()
    first = await here.client.post("new-order", {}, nonce=nonce)
    again = await here.client.post("new-order", {}, nonce=nonce)
    assert first.type == "malformed"
    assert (again.status, again.type) == (400, "badNonce")
    assert "JWS has an invalid anti-replay nonce" in again.json["detail"]
    assert (await here.client.order("localhost")).status == 201


async def test_a_bad_signature_spends_no_nonce(here):
    # A10: whoever saw a nonce cannot burn it.
    client = here.client
    await client.register()
    nonce = await client.fresh_nonce()
    body = json.loads(client.envelope(f"{client.base}/new-order", {}, nonce=nonce))
    body["signature"] = "A" * 86
    spoiled = await client.call(
        "POST", f"{client.base}/new-order", json.dumps(body).encode(), {"Content-Type": "application/jose+json"}
    )
    assert spoiled.status in {400, 403}
    identifiers = [{"type": "dns", "value": "localhost"}]
    assert (await client.post("new-order", {"identifiers": identifiers}, nonce=nonce)).status == 201


async def test_of_a_hundred_requests_with_one_nonce_one_is_heard(here):
    # A7.
    await here.client.register()
    nonce = await here.client.fresh_nonce()
    answers = []

    async def post():
        answers.append(await here.client.post("new-order", {}, nonce=nonce))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(post)
    assert sorted(answer.type for answer in answers) == ["badNonce"] * 99 + ["malformed"]


# Who may come in


async def test_plain_http_is_refused(here):
    answer = await here.house.ask("GET", "/acme/demo/device/directory", scheme="http")
    assert answer.status == 403
    assert answer.header("Content-Type") == "application/problem+json"


@pytest.mark.parametrize("header", ["X-Forwarded-Proto", "Forwarded", "X-Forwarded-Host", "Host"])
async def test_no_header_decides_what_the_urls_are(here, header):
    # A2, A21.
    answer = await here.house.ask("GET", "/acme/demo/device/directory", headers={header: "evil.example"})
    assert b"evil" not in answer.body
    answer = await here.house.ask("GET", "/acme/demo/device/directory", scheme="http", headers={header: "https"})
    assert answer.status == 403


async def test_nothing_tells_an_unknown_pair_from_a_closed_door(here):
    await here.house.change(acme=None)
    bodies = set()
    for path in ("/acme/demo/device/directory", "/acme/demo/other/directory", "/acme/nobody/device/directory"):
        answer = await here.house.ask("GET", path)
        assert answer.status == 404
        bodies.add(answer.body)
    assert len(bodies) == 1


async def test_a_door_that_was_open_a_moment_ago_is_closed_with_the_next_catalogue(here):
    assert (await here.client.register()).status == 201
    await here.house.change(acme=None)
    assert (await here.house.ask("GET", "/acme/demo/device/directory")).status == 404
    answer = await here.house.ask(
        "POST", "/acme/demo/device/new-order", b"{}", headers={"Content-Type": "application/jose+json"}
    )
    assert answer.status == 404


@pytest.mark.parametrize(
    "path", ["directory/", "/directory", "new-order/", "new-order?x=1", "order/%2e%2e/x", "order/a%2fb", "", "order"]
)
async def test_addresses_are_never_repaired(here, path):
    # A14.
    for method in ("GET", "POST"):
        answer = await here.house.ask(
            method, f"/acme/demo/device/{path}", b"{}", headers={"Content-Type": "application/jose+json"}
        )
        assert answer.status in {404, 405}
        assert answer.header("Location") is None


async def test_nothing_of_one_pair_is_reachable_through_another(here):
    await here.client.register()
    order = await here.client.order("localhost")
    stranger = AcmeClient(here.house.ask, "https://localhost:8443/acme/other/device", here.client.key)
    await stranger.register()
    assert (await stranger.post(order.location.replace("/demo/", "/other/"))).status == 404
    stranger.kid = here.client.kid
    assert (await stranger.order("localhost")).type in {"accountDoesNotExist", "unauthorized", "malformed"}


async def test_nothing_of_one_account_is_shown_to_another(here):
    # A52: each kind of URL.
    await here.client.register()
    final = await here.issue("localhost")
    order = await here.client.order("localhost")
    authorization = await here.client.post(order.json["authorizations"][0])
    urls = [
        final.json["certificate"],
        order.location,
        order.json["authorizations"][0],
        authorization.json["challenges"][0]["url"],
        here.client.kid,
        f"{here.client.kid}/orders",
    ]
    thief = AcmeClient(here.house.ask)
    await thief.register()
    for url in urls:
        answer = await thief.post(url)
        assert answer.status in {403, 404}, url
    answer = await thief.post(order.json["finalize"], {"csr": csr("localhost")})
    assert answer.status in {403, 404}
    answer = await thief.post(authorization.json["challenges"][0]["url"], {})
    assert answer.status in {403, 404}


async def test_external_account_binding_is_asked_for_unless_the_pair_says_otherwise(here):
    # A128.
    await here.settings(skip_eab_binding=False)
    assert (await here.client.register()).type == "externalAccountRequired"


# Accounts


async def test_the_same_key_is_the_same_account(here):
    # A30, A32.
    answers = []

    async def register():
        answers.append(await AcmeClient(here.house.ask, key=here.client.key).register())

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(register)
    assert len({answer.location for answer in answers}) == 1
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]


async def test_a_deactivated_account_is_refused_from_the_next_request_on(here):
    # A36; the account was read a moment ago, and is not remembered.
    await here.client.register()
    order = await here.client.order("localhost")
    assert (await here.client.post(here.client.kid, {"status": "deactivated"})).json["status"] == "deactivated"
    answer = await here.client.post(order.location)
    assert (answer.status, answer.type) == (403, "unauthorized")


async def test_contacts_are_changed(here):
    await here.client.register(contact=["mailto:a@example.com"])
    assert (await here.client.post(here.client.kid)).json["contact"] == ["mailto:a@example.com"]
    await here.client.post(here.client.kid, {"contact": ["mailto:b@example.com"]})
    assert (await here.client.post(here.client.kid)).json["contact"] == ["mailto:b@example.com"]


async def test_an_account_lists_its_orders(here):
    account = await here.client.register()
    order = await here.client.order("localhost")
    answer = await here.client.post(account.json["orders"])
    assert answer.json["orders"] == [order.location]


# Orders
