"""Who asks too often (GCRA): by address, by application, and only while it hurts others where the setting says so."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.limits import Limits
from gateway.fronts.rates import Allowed, Rates, rate
from tests.doubles.house import House, open_house

HERE, THERE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "198.51.100.3"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """Rates, and what the test says of the time and of the load."""

    def __init__(self, **allowed: object) -> None:
        self.clock = Clock()
        self.pressed = False
        self.rates = Rates(
            bytearray(1 << 14),
            b"a key",
            Allowed(**allowed),  # type: ignore[arg-type]
            pressed=lambda: self.pressed,
            clock=self.clock,
        )

    def times(self, address: str, count: int) -> list[int]:
        return [self.rates.request(address) for _ in range(count)]


def test_a_burst_then_a_rate_then_429_with_a_time():
    """RFC 6585, 4."""
    asked = Asked(address=rate("2/s burst 4"))
    assert asked.times(HERE, 4) == [0, 0, 0, 0]
    assert asked.times(HERE, 1) == [1]
    assert asked.times(THERE, 1) == [0]
    with pytest.raises(Refusal) as refused:
        asked.rates.require(HERE)
    assert refused.value.reason is RefusalReason.RATE_LIMITED
    assert refused.value.retry_after == 1
    asked.clock.now += 0.5
    assert asked.times(HERE, 2) == [0, 1]
    assert asked.rates.refused == 3


def test_whoever_waits_as_told_may_come():
    asked = Asked(address=rate("6/m burst 1"))
    assert asked.times(HERE, 1) == [0]
    seconds = asked.rates.request(HERE)
    assert seconds == 10
    asked.clock.now += seconds
    assert asked.times(HERE, 1) == [0]


def test_without_a_rate_everything_goes_on():
    asked = Asked()
    asked.pressed = True
    assert asked.times(HERE, 1000) == [0] * 1000
    assert asked.rates.early(HERE) == asked.rates.early_enrollment("app") == 0
    assert asked.rates.connection(HERE)
    asked.rates.enrollment("app")
    assert not asked.rates.alert


def test_a_look_before_parsing_says_the_same_and_counts_nothing():
    asked = Asked(address=rate("1/s burst 2"), application=rate("1/s burst 2"))
    assert [asked.rates.early(HERE) for _ in range(9)] == [0] * 9
    assert not asked.rates.alert
    assert asked.times(HERE, 3) == [0, 0, 1]
    assert asked.rates.alert
    assert asked.rates.early(HERE) == 1
    assert asked.rates.early(THERE) == 0
    for _ in range(2):
        assert asked.rates.early_enrollment("app") == 0
        asked.rates.enrollment("app")
    assert asked.rates.early_enrollment("app") == 1
    asked.clock.now += 6
    assert not asked.rates.alert


class TestWhenBusy:
    """A rate that bites only while it hurts others."""

    @pytest.fixture
    def asked(self) -> Asked:
        return Asked(address=rate("2/s burst 10 when busy"), connections=rate("2/s burst 10 when busy"))

    def test_one_who_asks_alone_has_all_of_it(self, asked: Asked):
        asked.pressed = True
        assert asked.times(HERE, 500) == [0] * 500
        assert all(asked.rates.connection(HERE) for _ in range(500))

    def test_two_who_ask_for_too_much_refuse_nobody_for_each_other(self, asked: Asked):
        """A load test from two machines."""
        asked.times(HERE, 100), asked.times(THERE, 100)
        asked.clock.now += 2.5
        asked.pressed = True
        assert [asked.times(HERE, 1) + asked.times(THERE, 1) for _ in range(100)][20:] == [[0, 0]] * 80

    def test_while_there_is_room_nobody_is_refused(self, asked: Asked):
        asked.times(THERE, 1)
        assert asked.times(HERE, 500) == [0] * 500

    def test_who_asks_for_too_much_leaves_room_for_others(self, asked: Asked):
        asked.times(HERE, 100)
        asked.pressed = True
        assert asked.times(THERE, 1) == [0]
        told = asked.times(HERE, 20)
        assert all(told)
        assert len(set(told)) > 1  # they do not come back together
        assert asked.rates.early(HERE)
        assert asked.times(THERE, 1) == [0]
        asked.rates.connection(THERE)
        for _ in range(10):
            asked.rates.connection(HERE)
        assert not asked.rates.connection(HERE)
        assert asked.rates.connection(THERE)

    def test_they_are_forgotten_who_asked_long_ago(self, asked: Asked):
        asked.pressed = True
        asked.times(THERE, 1)
        asked.clock.now += 3
        assert asked.times(HERE, 100) == [0] * 100

    def test_a_storm_among_several_finds_another_to_leave_room_for(self, asked: Asked):
        asked.pressed = True
        asked.times(THERE, 1)
        asked.times(HERE, 1)
        asked.times(THERE, 1)
        assert any(asked.times(HERE, 30))

    def test_an_application_is_bound_while_there_is_too_much_to_do(self):
        asked = Asked(application=rate("1/s when busy"))
        for _ in range(10):
            asked.rates.enrollment("app")
        assert asked.rates.early_enrollment("app") == 0
        asked.pressed = True
        assert asked.rates.early_enrollment("app")
        with pytest.raises(Refusal):
            asked.rates.enrollment("app")


def test_ipv6_hosts_share_the_count_of_their_network_and_others_do_not():
    asked = Asked(address=rate("1/s"))
    assert asked.times("2001:db8::1", 1) == [0]
    assert asked.times("2001:db8::abcd", 1) == [1]
    assert asked.times("2001:db8:0:1::1", 1) == [0]
    wide = Asked(address=rate("1/s"), prefix=48)
    assert wide.times("2001:db8::1", 1) + wide.times("2001:db8:0:1::1", 1) == [0, 1]
    assert asked.times("::ffff:192.0.2.1", 1) + asked.times(HERE, 1) == [0, 1]


def test_only_who_is_listed_is_exempt():
    networks = (ip_network("127.0.0.0/8"), ip_network("2001:db8::7"))
    asked = Asked(address=rate("1/s"), connections=rate("1/s"), exempt=networks)
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "2001:db8::7"):
        assert asked.times(address, 5) == [0] * 5
        assert all(asked.rates.connection(address) for _ in range(5))
    assert asked.times("2001:db8::8", 2) == [0, 1]
    assert asked.times("", 2) == [0, 1]
    assert [asked.rates.connection(ELSEWHERE) for _ in range(2)] == [True, False]


def test_an_application_is_counted_by_itself():
    asked = Asked(application=rate("10/s burst 2"))
    asked.rates.enrollment("a"), asked.rates.enrollment("a")
    with pytest.raises(Refusal) as refused:
        asked.rates.enrollment("a")
    assert (refused.value.reason, refused.value.retry_after) == (RefusalReason.RATE_LIMITED, 1)
    asked.rates.enrollment("b")


@pytest.mark.parametrize("setting", ["", "0"])
def test_nothing_is_no_rate(setting: str):
    assert rate(setting) is None


@pytest.mark.parametrize(
    "setting", ["5", "0/s", "5/d", "5/s burst 0", "5/s burst", "-1/s", "5/s when", "5 /s", "5/s\n"]
)
def test_what_is_no_rate_is_an_error(setting: str):
    with pytest.raises(ValueError, match="a rate such as"):
        rate(setting)


@given(st.integers(1, 10_000), st.sampled_from("smh"), st.integers(1, 1000))
def test_a_setting_says_what_it_does(count: int, unit: str, burst: int):
    asked = Asked(address=rate(f"{count}/{unit} burst {burst}"))
    assert asked.times(HERE, burst) == [0] * burst
    assert asked.times(HERE, 1) != [0]


@given(st.text(max_size=40))
def test_no_address_raises(address: str):
    Asked(address=rate("1/s"), exempt=(ip_network("10.0.0.0/8"),)).rates.request(address)


@pytest.fixture
async def house(tmp_path: Path):
    async with open_house(tmp_path) as house:
        yield house


async def test_every_door_asks_first_and_reads_nothing_of_who_asks_too_often(house: House):
    """The body is not parsed and no signature checked: what comes is not even looked for."""
    house.set_front(limits=Limits(rates=Rates(allowed=Allowed(address=rate("1/h")))))
    assert (await house.ask("GET", "/acme/demo/device/directory")).status == 200
    answers = {
        path: await house.ask(method, path, b"x")
        for method, path in (
            ("GET", "/acme/demo/device/directory"),
            ("HEAD", "/acme/demo/device/new-nonce"),
            ("POST", "/acme/demo/device/new-order"),
            ("GET", "/est/demo/device/cacerts"),
            ("POST", "/scep/demo/device"),
            ("POST", "/api/v1/cert-manager/certificates"),
            ("GET", "/nowhere"),
        )
    }
    assert {path: answer.status for path, answer in answers.items()} == {
        path: 503 if path.startswith("/scep") else 429 for path in answers
    }
    assert all(int(answer.header("Retry-After")) > 0 for answer in answers.values())
    for path in ("/acme/demo/device/directory", "/acme/demo/device/new-order"):
        assert answers[path].header("Replay-Nonce")  # A6, A105


async def test_statuses_lists_and_health_are_answered_to_everybody(house: House):
    """They cost less than a refusal, and those who rely on certificates need them."""
    house.set_front(limits=Limits(rates=Rates(allowed=Allowed(address=rate("1/h")))))
    await house.ask("GET", "/acme/demo/device/directory")
    assert (await house.ask("GET", "/acme/demo/device/directory")).status == 429
    for path in ("/readyz", "/healthz", "/ca/test-root.crt"):
        assert (await house.ask("GET", path)).status == 200
    assert (await house.ask("POST", "/ocsp/test-root", b"x")).status == 200


async def test_an_application_that_begins_too_much_is_told_before_its_body_is_read(house: House):
    house.set_front(limits=Limits(rates=Rates(allowed=Allowed(application=rate("1/h")))))
    await house.ask("POST", "/est/demo/device/simpleenroll", b"x")
    assert (await house.ask("POST", "/est/demo/device/simpleenroll", b"x")).status == 429
    assert (await house.ask("POST", "/acme/demo/device/new-order", b"x")).status == 429
    assert (await house.ask("POST", "/acme/demo/device/finalize/5", b"x")).status != 429
    assert (await house.ask("GET", "/est/demo/device/cacerts")).status == 200
