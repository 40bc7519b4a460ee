"""All addresses together (D9): what is not listed does not exist."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.fronts.routes import routes
from tests.doubles.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, routes) as house:
        yield house


async def test_the_list_of_addresses_is_short_enough_to_be_read(house: House):
    assert len(routes(house.front)) <= 40


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/robots.txt",
        "/api",
        "/api/v1/cert-manager",
        "/api/v1/cert-manager/",
        "/est",
        "/est/demo",
        "/ca",
        "/acme",
        "/scep/demo",
        "/healthz/",
        "/.well-known/est",
        "/.well-known/acme-challenge/x",
        "/metrics",
        "/docs",
        "//est",
    ],
)
async def test_an_unlisted_address_is_a_problem_that_tells_nothing_and_leads_nowhere(house: House, target: str):
    first = await house.ask("GET", "/nothing")
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = await house.ask(method, target)
        assert (answer.status, answer.body) == (404, first.body)
        assert answer.header("Content-Type") == "application/problem+json"
        assert answer.header("Location") is None


@pytest.mark.parametrize(
    ("target", "marker"),
    [
        ("/est/demo/device/cacerts", "pkcs7"),
        ("/scep/demo/device?operation=GetCACaps", "text/plain"),
        ("/ca/test-root.crl", "pkix-crl"),
        ("/healthz", "text/plain"),
    ],
)
async def test_each_front_answers_at_its_own_address(house: House, target: str, marker: str):
    answer = await house.ask("GET", target)
    assert answer.status == 200
    assert marker in (answer.header("Content-Type") or "")
