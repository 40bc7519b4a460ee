"""Where may be dialled: A73."""

import weakref
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.challenges.proof import chosen
from gateway.outbound.reach import literal, may_dial


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.255", "192.0.0.1", "192.0.2.1",
     "192.88.99.1", "192.168.1.1", "198.19.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1",
     "255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1", "100::1", "2001::1",
     "2001:db8::1", "2002:a00:1::", "3fff::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "5f00::1"],
)  # fmt: skip
def test_private_and_reserved_addresses_are_never_dialled_by_default(address):
    assert not may_dial(ip_address(address), ())


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"])
def test_public_addresses_are_dialled(address):
    assert may_dial(ip_address(address), ())


def test_a_pair_may_allow_networks_of_its_own_and_no_others():
    allowed = ("10.0.0.0/8", "::1/128")
    assert may_dial(ip_address("10.200.0.1"), allowed)
    assert may_dial(ip_address("::1"), allowed)
    assert not may_dial(ip_address("127.0.0.1"), allowed)
    assert not may_dial(ip_address("::2"), allowed)
    assert may_dial(ip_address("8.8.8.8"), allowed)


def test_the_first_of_each_kind_that_may_be_dialled_is_chosen():
    # A66, A73
    every = tuple(map(ip_address, ("10.0.0.1", "fd00::1", "8.8.8.8", "2a00::1", "1.1.1.1", "2a00::2")))
    assert chosen(every, ()) == (ip_address("2a00::1"), ip_address("8.8.8.8"))
    assert chosen(every, ("10.0.0.0/8", "fd00::/8")) == (ip_address("fd00::1"), ip_address("10.0.0.1"))
    assert chosen(every[:2], ()) == ()


def test_answers_of_thousands_of_addresses_are_not_kept():
    # A stranger's name server chooses how many there are: what is remembered is bounded by the address.
    given_out = weakref.WeakSet()
    for answer in range(5):
        many = tuple(IPv4Address((10 << 24) + (answer << 12) + number) for number in range(4096))
        given_out.update(many)
        assert chosen(many, ()) == ()
    del many
    assert len(given_out) <= 4096


@given(st.ip_addresses(v=4).map(lambda a: IPv6Address(b"\0" * 10 + b"\xff\xff" + a.packed)))
def test_no_ipv4_address_is_reached_in_an_ipv6_disguise(address):
    assert not may_dial(address, ())


@given(st.ip_addresses())
def test_whatever_python_calls_private_is_closed(address):
    # Python 3.11 to 3.13 differ in details of the registry; RFC 1918 and the like they agree on.
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not may_dial(address, ())


@pytest.mark.parametrize("text", ["example.com", "1.2.3", "fe80::1%eth0", "", "[::1]"])
def test_what_is_not_an_address_is_a_name(text):
    assert literal(text) is None


def test_addresses_are_read():
    assert literal("127.0.0.1") == IPv4Address("127.0.0.1")
    assert literal("::1") == IPv6Address("::1")
