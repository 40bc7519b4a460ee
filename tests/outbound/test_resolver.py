"""The resolver: DNS messages, servers of a pair's own, and what is answered without asking (A67 as far as addresses go)."""

import contextlib
import os
import struct
from ipaddress import ip_address

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.resolver import NameResolver, ResolutionFailed
from gateway.outbound.resolver.messages import BadAnswer, RecordType, answer, question
from tests.doubles.mutation import mutations
from tests.doubles.nameserver import Nameserver, encode, respond


def resolver():
    return NameResolver(os.urandom)


def test_a_question_is_read_back_by_the_servers_side():
    asked = question(7, "www.example.com", RecordType.A)
    given_back = respond(asked, [("www.example.com", 1, ip_address("192.0.2.1").packed)])
    assert answer(given_back, 7, "www.example.com", RecordType.A).addresses == (ip_address("192.0.2.1"),)


def test_aliases_are_followed_inside_the_answer():
    asked = question(7, "a.example", RecordType.A)
    records = [
        ("a.example", 5, encode("b.example")),
        ("b.example", 5, encode("c.example")),
        ("c.example", 1, ip_address("192.0.2.3").packed),
        ("stranger.example", 1, ip_address("192.0.2.66").packed),
    ]
    assert answer(respond(asked, records), 7, "a.example", RecordType.A).addresses == (ip_address("192.0.2.3"),)


def test_aliases_in_a_circle_give_no_address():
    asked = question(7, "a.example", RecordType.A)
    records = [("a.example", 5, encode("b.example")), ("b.example", 5, encode("a.example"))]
    assert answer(respond(asked, records), 7, "a.example", RecordType.A).addresses == ()


def test_another_conversations_answer_is_refused():
    # RFC 5452, 9: identifier and question must both match.
    asked = question(7, "a.example", RecordType.A)
    with pytest.raises(BadAnswer):
        answer(respond(asked, []), 8, "a.example", RecordType.A)
    with pytest.raises(BadAnswer):
        answer(respond(asked, []), 7, "b.example", RecordType.A)
    with pytest.raises(BadAnswer):
        answer(respond(asked, []), 7, "a.example", RecordType.AAAA)
    with pytest.raises(BadAnswer):
        answer(asked, 7, "a.example", RecordType.A)


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..example", ".".join(["a" * 60] * 5), "ä.example"])
def test_what_does_not_fit_dns_is_no_question(name):
    with pytest.raises(ValueError):
        question(1, name, RecordType.A)


def test_pointers_that_go_round_are_refused():
    header = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 0)
    with pytest.raises(BadAnswer):
        answer(header + b"\xc0\x0c" + b"\0\1\0\1", 7, "a", RecordType.A)


def test_damaged_answers_are_bad_answers_and_nothing_else():
    asked = question(7, "www.example.com", RecordType.AAAA)
    whole = respond(asked, [("www.example.com", 28, ip_address("2001:db8::1").packed)])
    for bad in mutations(whole, 3000, [whole, asked]):
        with contextlib.suppress(BadAnswer):
            answer(bad, 7, "www.example.com", RecordType.AAAA)


@given(st.binary(max_size=600))
def test_any_bytes_are_an_answer_or_a_bad_one(message):
    with contextlib.suppress(BadAnswer):
        answer(message, 7, "a", RecordType.A)


async def test_a_literal_is_its_own_address():
    assert await resolver().addresses("192.0.2.7", ("192.0.2.1",)) == (ip_address("192.0.2.7"),)


@pytest.mark.parametrize("name", ["localhost", "device.localhost"])
async def test_localhost_is_loopback_whatever_a_server_says(name):
    # RFC 6761, 6.3.
    assert await resolver().addresses(name, ("192.0.2.1",)) == (ip_address("::1"), ip_address("127.0.0.1"))


async def test_a_server_of_the_pairs_own_is_asked_and_ipv6_comes_first():
    records = {("www.example", 1): ["192.0.2.1", "192.0.2.2"], ("www.example", 28): ["2001:db8::1"]}
    async with Nameserver(records) as server:
        found = await resolver().addresses("www.example", (server.address,))
    assert found == tuple(map(ip_address, ("2001:db8::1", "192.0.2.1", "192.0.2.2")))


async def test_both_kinds_are_asked_for_at_once_and_each_from_a_port_of_its_own():
    # One round trip, not two. Ports: RFC 5452, 9.2.
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        peers = set()

        async def answer_when_both_have_come():
            asked = [await server.recvfrom(4096) for _ in range(2)]
            for question, peer in reversed(asked):
                peers.add(peer)
                kind = struct.unpack_from("!H", question, question.index(b"\0", 12) + 1)[0]
                data = ip_address("2001:db8::1" if kind == 28 else "192.0.2.1").packed
                await server.sendto(respond(question, [("www.example", kind, data)]), peer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_when_both_have_come)
            with trio.fail_after(60):
                found = await resolver().addresses("www.example", (f"127.0.0.1:{server.getsockname()[1]}",))
    assert found == (ip_address("2001:db8::1"), ip_address("192.0.2.1"))
    assert len(peers) == 2


async def test_a_server_that_cannot_be_reached_is_passed_over():
    async with Nameserver({("www.example", 1): ["192.0.2.1"]}) as good:
        # Nobody is at port 1: the kernel says so instead of an answer.
        assert await resolver().addresses("www.example", ("127.0.0.1:1", good.address))


async def test_a_name_with_one_kind_of_address_is_found():
    async with Nameserver({("www.example", 1): ["192.0.2.1"]}) as server:
        assert await resolver().addresses("www.example", (server.address,)) == (ip_address("192.0.2.1"),)


async def test_no_such_name_is_final():
    # A67: NXDOMAIN and SERVFAIL are different answers.
    async with Nameserver({}, code=3) as server:
        with pytest.raises(ResolutionFailed) as failure:
            await resolver().addresses("www.example", (server.address,))
    assert not failure.value.passing


async def test_a_name_without_addresses_is_final():
    async with Nameserver({}) as server:
        with pytest.raises(ResolutionFailed) as failure:
            await resolver().addresses("www.example", (server.address,))
    assert not failure.value.passing


async def test_a_failing_server_is_a_passing_failure():
    async with Nameserver({}, code=2) as server:
        with pytest.raises(ResolutionFailed) as failure:
            await resolver().addresses("www.example", (server.address,))
    assert failure.value.passing


async def test_the_second_server_answers_for_a_failing_first_one():
    async with Nameserver({}, code=2) as bad, Nameserver({("www.example", 1): ["192.0.2.1"]}) as good:
        found = await resolver().addresses("www.example", (bad.address, good.address))
    assert found == (ip_address("192.0.2.1"),)


async def test_a_silent_server_is_given_up(autojump_clock):
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        with pytest.raises(ResolutionFailed) as failure:
            await resolver().addresses("www.example", (f"127.0.0.1:{silent.getsockname()[1]}",))
    assert failure.value.passing


async def test_a_truncated_answer_is_asked_for_again_over_tcp():
    records = {("www.example", 1): [f"192.0.2.{n}" for n in range(1, 100)]}
    async with Nameserver(records, truncate=True) as server:
        assert len(await resolver().addresses("www.example", (server.address,))) == 99


async def test_a_forged_answer_does_not_hide_the_true_one():
    async with Nameserver({("www.example", 1): ["192.0.2.1"]}, forge=True) as server:
        assert await resolver().addresses("www.example", (server.address,)) == (ip_address("192.0.2.1"),)


async def test_the_systems_resolver_serves_where_no_server_is_named(monkeypatch):
    async def getaddrinfo(host, port, **_):
        assert (host, port) == ("www.example", None)
        return [(0, 0, 0, "", ("192.0.2.1", 0)), (0, 0, 0, "", ("2001:db8::1", 0, 0, 0))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    found = await resolver().addresses("www.example", ())
    assert found == (ip_address("2001:db8::1"), ip_address("192.0.2.1"))


@pytest.mark.parametrize(("code", "passing"), [(trio.socket.EAI_AGAIN, True), (trio.socket.EAI_NONAME, False)])
async def test_the_systems_failures_are_told_apart(monkeypatch, code, passing):
    async def getaddrinfo(*_, **__):
        raise trio.socket.gaierror(code, "no")

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ResolutionFailed) as failure:
        await resolver().addresses("www.example", ())
    assert failure.value.passing is passing


@pytest.mark.parametrize(
    ("server", "endpoint"),
    [("192.0.2.1", ("192.0.2.1", 53)), ("192.0.2.1:5353", ("192.0.2.1", 5353)), ("2001:db8::1", ("2001:db8::1", 53)),
     ("[2001:db8::1]:5353", ("2001:db8::1", 5353)), ("[2001:db8::1]", ("2001:db8::1", 53))],
)  # fmt: skip
def test_servers_are_spelled_with_or_without_a_port(server, endpoint):
    from gateway.outbound.resolver.resolver import _endpoint

    assert _endpoint(server) == (ip_address(endpoint[0]), endpoint[1])
