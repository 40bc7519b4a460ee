"""`/metrics`: who may read it, and that what stands there is Prometheus' text format to the letter."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fronts.exposition import counter, exposed, gauge, histogram
from gateway.fronts.readers import NOBODY, readers
from tests.doubles.exposition import read
from tests.doubles.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:

        async def measured():
            return [gauge("muster_one", "One.", (1, {}))]

        house.set_front(measures=measured, readers=readers("loopback"))
        yield house


async def asked(house: House, method: str = "GET", **how: object) -> int:
    return (await house.ask(method, "/metrics", **{"scheme": "http", "address": "127.0.0.1", **how})).status


async def test_who_comes_from_the_same_machine_may_read(house: House):
    answer = await house.ask("GET", "/metrics", scheme="http", address="127.0.0.1")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.header("Cache-Control") == "no-store"
    assert read(answer.text).value("muster_one") == 1
    assert await asked(house, address="::1") == await asked(house, address="::ffff:127.0.0.1") == 200
    assert await asked(house, "HEAD") == 200
    assert await asked(house, "POST") == 405


async def test_for_everybody_else_it_does_not_exist(house: House):
    """D9: an address that is not for someone says so without a hint."""
    assert await asked(house, address="192.0.2.1") == 404
    assert await asked(house, scheme="https") == 404
    assert await asked(house, "POST", address="192.0.2.1") == 404
    assert await asked(house, address="") == 404
    nowhere = await house.ask("GET", "/metricz", scheme="http")
    hidden = await house.ask("GET", "/metrics", scheme="http")
    assert (nowhere.status, nowhere.body, nowhere.headers) == (hidden.status, hidden.body, hidden.headers)


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
async def test_what_came_through_a_proxy_has_its_address_and_not_its_right(house: House, name: str):
    """No header gives a right; this one takes it away: behind a proxy on the same machine everybody is 127.0.0.1."""
    assert await asked(house, headers={name: "127.0.0.1"}) == 404
    assert await asked(house, address="192.0.2.1", headers={name: "127.0.0.1"}) == 404


async def test_nobody_reads_what_nobody_has_opened(tmp_path: Path):
    async with open_house(tmp_path) as house:
        assert await asked(house) == 404


@pytest.mark.parametrize(
    ("setting", "may", "may_not"),
    [
        ("off", [], ["127.0.0.1", "192.0.2.1"]),
        ("loopback", ["127.0.0.1", "127.9.9.9", "::1"], ["192.0.2.1", "2001:db8::1", "", "localhost"]),
        ("192.0.2.7, 2001:db8::/32", ["192.0.2.7", "2001:db8::1"], ["127.0.0.1", "192.0.2.8", "::1"]),
        ("on", ["127.0.0.1", "192.0.2.1", "2001:db8::1"], []),
    ],
)
def test_the_setting_says_who(setting: str, may: list[str], may_not: list[str]):
    rule = readers(setting)
    assert [each for each in may if rule.admit(each, forwarded=False)] == may
    assert [each for each in may_not if rule.admit(each, forwarded=False)] == []
    assert rule.admit("127.0.0.1", forwarded=True) is (setting == "on")
    assert not NOBODY.admit("127.0.0.1", forwarded=False)


@pytest.mark.parametrize("setting", ["", "yes", "127.0.0.1,", "10.0.0.1/8", "hsm.example"])
def test_what_says_nobody_clearly_is_an_error(setting: str):
    with pytest.raises(ValueError):
        readers(setting)


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_label_and_any_number_come_back_as_they_were(text: str, number: float):
    page = read(exposed([counter("a_total", "A.", (number, {"token": text}))]).decode())
    assert page.value("a_total", token=text) == number


def test_counts_by_size_are_cumulative():
    page = read(exposed([histogram("sizes", "Sizes.", (1, 2, 4), (3, 0, 2), 11)]).decode())
    assert [value for _, value in page.all("sizes_bucket")] == [3, 3, 5, 5]
    assert (page.value("sizes_sum"), page.value("sizes_count")) == (11, 5)


def test_a_family_without_a_figure_is_left_out():
    assert exposed([counter("a_total", "A.")]) == b""
