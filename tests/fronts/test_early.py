"""Refusals before HTTP is read (P16): each door's own words, and nothing but what is beyond doubt."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.authority import AuthorityStatus
from gateway.fronts.admission import Admission
from gateway.fronts.early import Early, Heads
from gateway.fronts.limits import Limits
from gateway.fronts.rates import Allowed, Rates, rate
from gateway.fronts.routes import routes
from tests.doubles.house import House, open_house
from tests.doubles.shut import Shut

REST = "/api/v1/cert-manager/certificates"


@pytest.fixture
async def house(tmp_path: Path):
    async with open_house(tmp_path) as house:
        yield house


def early(house: House, admission: Admission | None = None) -> tuple[Early, list[int]]:
    house.set_front(limits=Limits(admission=admission or Shut(7)))
    told: list[int] = []
    return Early(house.front, routes(house.front), told.append), told


def request(path: str, *, method: str = "POST", fields: str = "", body: bytes = b"x" * 10) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read(answer: bytes | None) -> tuple[int, dict[str, str], bytes]:
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    assert int(headers["Content-Length"]) == len(body)
    assert "Connection" not in headers  # it goes on
    return int(first.split(" ")[1]), headers, body


DOORS = {
    "/acme/demo/device/new-order": "application/problem+json",
    "/est/demo/device/simpleenroll": "text/plain; charset=utf-8",
    "/.well-known/est/demo.device/simpleenroll": "text/plain; charset=utf-8",
    "/scep/demo/device": "text/plain; charset=utf-8",
    REST: "application/problem+json",
}


@pytest.mark.parametrize("path", DOORS)
async def test_every_door_says_it_in_its_own_words(house: House, path: str):
    """E107, S120, RFC 8555, 6.7, RFC 9457."""
    short, told = early(house)
    status, headers, body = read(short.answer(request(path), "192.0.2.1", secure=True))
    assert (status, headers["Retry-After"], headers["Content-Type"]) == (503, "7", DOORS[path])
    assert told == [503]
    if path.startswith("/acme"):
        assert headers["Replay-Nonce"]  # A105
        assert json.loads(body)["type"] == "urn:ietf:params:acme:error:serverInternal"


OTHERS = {
    "a read": request("/acme/demo/device/directory", method="GET"),
    "a status": request("/ocsp/test-root"),
    "a revocation": request(f"{REST}/5/revoke"),
    "health": request("/readyz", method="GET"),
    "a stranger's path": request("/est/nobody/device/simpleenroll"),
    "a door that is no operation": request("/est/demo/device"),
    "a path that needs reading": request("/est/demo/device/%73impleenroll"),
    "a query": request("/est/demo/device/simpleenroll?x"),
    "an old version": request("/est/demo/device/simpleenroll").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no host": request("/est/demo/device/simpleenroll").replace(b"Host: a\r\n", b""),
    "two lengths": request("/est/demo/device/simpleenroll", fields="Content-Length: 10\r\n"),
    "a length in a fold": request("/est/demo/device/simpleenroll", fields="X: y\r\n z: 1\r\n"),
    "a length that is none": request("/est/demo/device/simpleenroll").replace(b"Length: 10", b"Length: +10"),
    "chunks": request("/est/demo/device/simpleenroll", fields="Transfer-Encoding: chunked\r\n"),
    "one that waits for leave": request("/est/demo/device/simpleenroll", fields="Expect: 100-continue\r\n"),
    "one that ends": request("/est/demo/device/simpleenroll", fields="Connection: close\r\n"),
    "one that ends, said otherwise": request(
        "/est/demo/device/simpleenroll", fields="connection:keep-alive,\tClose\r\n"
    ),
    "a bare line feed": request("/est/demo/device/simpleenroll", fields="X: a\nTransfer-Encoding: b\r\n"),
    "a blank before the colon": request("/est/demo/device/simpleenroll", fields="X : a\r\n"),
    "half a body": request("/est/demo/device/simpleenroll")[:-1],
    "a second request": request("/est/demo/device/simpleenroll") * 2,
    "half a head": b"POST /est/demo/device/simpleenroll HTTP/1.1\r\nHost:",
    "nothing": b"",
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_no_whole_plain_enrollment_takes_the_ordinary_way(house: House, name: str):
    short, told = early(house)
    assert short.answer(OTHERS[name], "192.0.2.1", secure=True) is None
    assert told == []


@pytest.mark.parametrize("path", [path for path in DOORS if not path.startswith("/scep")])
async def test_plain_http_is_told_what_it_always_is(house: House, path: str):
    short, _ = early(house)
    assert short.answer(request(path), "192.0.2.1", secure=False) is None


@pytest.mark.parametrize("path", DOORS)
async def test_plain_http_from_a_proxy_that_has_ended_tls_is_told_as_https_is(house: House, path: str):
    short, told = early(house)
    answer = short.behind_tls().answer(request(path), "192.0.2.1", secure=False)
    assert answer is not None
    assert len(told) == 1


async def test_an_authority_that_rests_is_told_by_its_door(house: House):
    await house.save(replace(house.pair, authority=replace(house.pair.authority, status=AuthorityStatus.DISABLED)))
    short, _ = early(house)
    assert short.answer(request("/est/demo/device/simpleenroll"), "192.0.2.1", secure=True) is None


async def test_without_a_crowd_nothing_is_looked_at_and_what_comes_is_counted(house: House):
    admission = Admission()
    short, _ = early(house, admission)
    for _ in range(3000):
        assert short.answer(request("/est/demo/device/simpleenroll"), "192.0.2.1", secure=True) is None
        if admission.crowded:
            break
    assert admission.crowded  # by their number alone, before one of them has begun


async def test_what_carries_on_is_told_by_its_kind(house: House):
    """An order half way is preferred: the door says which paths begin something."""
    begun: list[bool] = []

    class Listening(Shut):
        def refusal(self, lane: str, *, begun: bool = False, from_socket: bool = False) -> int:
            heard.append((lane, begun))
            assert from_socket
            return 0

    heard: list[tuple[str, bool]] = []
    short, told = early(house, Listening(1))
    for path in ("new-order", "new-account", "finalize/5", "challenge/5"):
        assert short.answer(request(f"/acme/demo/device/{path}"), "192.0.2.1", secure=True) is None
    assert [begun for _, begun in heard] == [False, False, True, True]
    assert {lane for lane, _ in heard} == {house.pair.application.id}
    assert told == begun == []


async def test_rest_uses_the_share_of_the_tokens_application(house: House):
    heard: list[str] = []

    class Listening(Shut):
        def refusal(self, lane: str, *, begun: bool = False, from_socket: bool = False) -> int:
            heard.append(lane)
            return 0

    short, _ = early(house, Listening(1))
    house.front.limits.spenders.learn("Bearer known", "app")
    short.answer(request(REST, fields="Authorization: Bearer known\r\n"), "192.0.2.1", secure=True)
    short.answer(request(REST, fields="Authorization: Bearer other\r\n"), "192.0.2.1", secure=True)
    assert heard == ["app", "192.0.2.1"]


def whole(data: bytes) -> tuple[str, str] | None:
    """Method and path of what is one whole request; the same when its head is known already."""
    heads = Heads()
    first, again = heads.plain(data), heads.plain(data)
    assert first == again
    return None if first is None else (first.method, "/".join(first.path))


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes):
    whole(data)
    whole(b"POST /est/a/b/simpleenroll HTTP/1.1\r\nHost: a\r\n" + data)


@given(
    st.text(alphabet="GETPOS /ab%?\r\n:-~", max_size=40),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_only_a_length_that_is_true_makes_it_whole(field: str, said: int, came: int):
    head = f"POST /scep/a/b HTTP/1.1\r\nHost: a\r\nContent-Length: {said}\r\n\r\n".encode()
    assert (whole(head + b"x" * came) == ("POST", "/scep/a/b")) is (said == came)
    found = whole(head.replace(b"Host: a", f"Host: a\r\nX: {field}".encode()) + b"x" * said)
    assert found in {None, ("POST", "/scep/a/b")}
    if "\n" in field:
        assert found is None or "\r\n" in field


def test_a_head_that_is_known_still_needs_all_of_its_body_and_nothing_more():
    heads = Heads()
    one = request("/scep/a/b")
    assert heads.plain(one) is not None
    assert heads.plain(one[:-1]) is heads.plain(one + b"x") is heads.plain(one + one) is None


def test_a_flood_of_heads_is_not_kept():
    heads = Heads()
    for number in range(5000):
        assert heads.plain(request("/scep/a/b", fields=f"X: {number}\r\n")) is not None
    assert len(heads._known) <= 2048
    assert heads.plain(request("/scep/a/b", fields=f"X: {'a' * 5000}\r\n")) is None


async def test_each_answer_of_acme_has_a_nonce_of_its_own(house: House):
    """A6: what is written once is not ACME's."""
    short, _ = early(house)
    path = "/acme/demo/device/new-order"
    nonces = {read(short.answer(request(path), "192.0.2.1", secure=True))[1]["Replay-Nonce"] for _ in range(5)}
    assert len(nonces) == 5
    first, second = (short.answer(request("/scep/demo/device"), "192.0.2.1", secure=True) for _ in range(2))
    assert first == second


def often(allowed: Allowed) -> Rates:
    """Rates in which this address has used up what it may."""
    rates = Rates(bytearray(1 << 14), b"a key", allowed)
    rates.request("192.0.2.1")
    assert rates.request("192.0.2.1")
    return rates


@pytest.mark.parametrize("path", DOORS)
async def test_who_asks_too_often_is_told_at_every_door_in_its_own_words(house: House, path: str):
    """E107, S120, RFC 8555, 6.6 and 6.7, RFC 6585, 4."""
    house.set_front(limits=Limits(rates=often(Allowed(address=rate("1/m")))))
    told: list[int] = []
    short = Early(house.front, routes(house.front), told.append)
    status, headers, body = read(short.answer(request(path), "192.0.2.1", secure=True))
    assert status == (503 if path.startswith("/scep") else 429)
    assert (headers["Retry-After"], headers["Content-Type"]) == ("60", DOORS[path])
    if path.startswith("/acme"):
        assert headers["Replay-Nonce"]  # A105
        assert json.loads(body)["type"] == "urn:ietf:params:acme:error:rateLimited"
    assert short.answer(request(path), "192.0.2.2", secure=True) is None
    assert told == [status]


async def test_reads_count_too_and_head_has_no_body(house: House):
    """newNonce and the directory are what storms are made of; RFC 9110, 9.3.2."""
    house.set_front(limits=Limits(rates=often(Allowed(address=rate("1/m")))))
    short = Early(house.front, routes(house.front), lambda _: None)
    nonce = b"HEAD /acme/demo/device/new-nonce HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = short.answer(nonce, "192.0.2.1", secure=True)
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert answer.endswith(b"\r\n\r\n")
    read(short.answer(nonce.replace(b"HEAD", b"GET"), "192.0.2.1", secure=True))
    with_body = nonce.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc")
    assert short.answer(with_body, "192.0.2.1", secure=True) is None
    assert short.answer(nonce + b"x", "192.0.2.1", secure=True) is None
    assert short.answer(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", "192.0.2.1", secure=True) is None


async def test_an_application_that_asks_too_often_is_told_and_what_it_began_goes_on(house: House):
    rates = Rates(bytearray(1 << 14), b"a key", Allowed(application=rate("1/m")))
    house.set_front(limits=Limits(rates=rates))
    short = Early(house.front, routes(house.front), lambda _: None)
    rates.enrollment(house.pair.application.id)
    rates.early_enrollment(house.pair.application.id)
    status, headers, _ = read(short.answer(request("/acme/demo/device/new-order"), "192.0.2.1", secure=True))
    assert (status, headers["Retry-After"]) == (429, "60")
    assert short.answer(request("/acme/demo/device/finalize/5"), "192.0.2.1", secure=True) is None
    assert short.answer(request("/est/nobody/device/simpleenroll"), "192.0.2.1", secure=True) is None
