"""The PROXY protocol: what is read, what is refused, and that nothing is read in two ways."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.fronts.readers import networks
from gateway.serve.proxies.arrival import DIRECT, Origin, arrive
from gateway.serve.proxies.prefix import HEAD, LINE, MOST, SIGNATURE, BadPrefix, Prefix, crc32c, read
from gateway.serve.proxies.trusted import Trusted


def second(command: int = 0x21, family: int = 0x11, body: bytes | None = None, tlvs: bytes = b"") -> bytes:
    if body is None:
        body = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4711, 443)
    body += tlvs
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def summed(header: bytes) -> bytes:
    """The header with a checksum at its end."""
    size = struct.unpack("!H", header[14:16])[0] + 7
    blank = header[:14] + struct.pack("!H", size) + header[16:] + tlv(3, bytes(4))
    return blank[:-4] + struct.pack("!I", crc32c(blank))


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, appendix B.4, and the check value of every catalogue of CRCs."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize(
    ("header", "client", "server"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", ("192.0.2.7", 4711), ("198.51.100.1", 443)),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", ("2001:db8::7", 4711), ("::1", 443)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 0 65535\r\n", ("192.0.2.7", 0), ("::1", 65535)),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n", None, None),
        (second(), ("192.0.2.7", 4711), ("198.51.100.1", 443)),
        (
            second(family=0x21, body=bytes(15) + b"\x01" + bytes(15) + b"\x02" + struct.pack("!HH", 1, 2)),
            ("::1", 1),
            ("::2", 2),
        ),
        (second(command=0x20), None, None),
        (second(command=0x20, family=0, body=b""), None, None),
        (second(family=0, body=b"whatever"), None, None),
        (second(family=0x31, body=bytes(216)), None, None),
        (second(tlvs=tlv(4, b"") + tlv(1, b"h2") + tlv(0x20, b"\x01" + bytes(4))), ("192.0.2.7", 4711), None),
        (summed(second()), ("192.0.2.7", 4711), None),
        (summed(second(command=0x20)), None, None),
    ],
)
def test_what_a_proxy_says_is_read(header: bytes, client: object, server: object) -> None:
    found = read(header + b"\x16\x03\x01")
    assert isinstance(found, Prefix)
    assert found.client == client
    assert found.length == len(header)
    if server is not None:
        assert found.server == server


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 1\r\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
        b"PROXY UNKNOWN " + b"x" * LINE,
        SIGNATURE[:-1] + b"X" + bytes(4),
        second(command=0x11),
        second(command=0x22),
        second(family=0x12),
        second(family=0x22, body=bytes(36)),
        second(family=0x11, body=bytes(11)),
        second(family=0x21, body=bytes(35)),
        second(tlvs=b"\x01"),
        second(tlvs=b"\x01\x00\x05abcd"),
        second(tlvs=tlv(3, bytes(4))),
        second(tlvs=tlv(3, b"")),
        summed(summed(second())),
        SIGNATURE + b"\x21\x11" + struct.pack("!H", MOST + 1),
    ],
)
def test_what_is_no_such_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadPrefix):
        read(data)


def test_every_bit_of_a_header_with_a_checksum_counts() -> None:
    header = summed(second(tlvs=tlv(1, b"h2")))
    kind = len(header) - 7  # of another kind it is no checksum
    for place in [each for each in range(HEAD, len(header)) if each != kind]:
        damaged = header[:place] + bytes([header[place] ^ 1]) + header[place + 1 :]
        with pytest.raises(BadPrefix):
            read(damaged)


addresses = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 65535), st.integers(0, 65535))


@given(addresses, st.binary(max_size=40), st.booleans())
def test_what_was_written_is_read_and_what_follows_is_left(said, rest: bytes, binary: bool) -> None:
    source, destination, one, other = said
    body = source.packed + destination.packed + struct.pack("!HH", one, other)
    header = second(body=body) if binary else f"PROXY TCP4 {source} {destination} {one} {other}\r\n".encode()
    assert read(header + rest) == Prefix((str(source), one), (str(destination), other), len(header))


@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=120).map(lambda some: b"PROXY " + some),
        st.binary(max_size=200).map(lambda some: SIGNATURE + some),
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=100)).map(
            lambda t: second(t[0], t[1], t[2])
        ),
    )
)
def test_whatever_comes_is_read_refused_or_waited_for_the_same_byte_by_byte(data: bytes) -> None:
    """It never asks for a byte beyond the prefix, and comes to the same end however the bytes arrive."""

    def outcome(step: bool) -> Prefix | int | str:
        have = 0 if step else len(data)
        while True:
            try:
                found = read(data[:have])
            except BadPrefix:
                return "bad"
            if isinstance(found, Prefix) or found > len(data):
                return found
            if not step:
                return "waits for what is there"
            assert found > have
            have = found

    whole, parts = outcome(step=False), outcome(step=True)
    assert isinstance(whole, Prefix) == isinstance(parts, Prefix)
    if isinstance(whole, Prefix):
        assert whole == parts
    if parts == "bad":
        assert whole == "bad"


HERE = Trusted(networks("127.0.0.0/8"), prefixed=True, terminates=False, form=None, forwarded="")


async def met(data: list[bytes], trusted: Trusted | None, *, ends: bool = False) -> tuple[Origin, bytes]:
    """What a connection is taken for that sends `data`, and the bytes that are left for who reads on."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0]:
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as client, await listeners[0].accept() as server:

            async def send() -> None:
                for part in data:
                    await client.send_all(part)
                    await trio.sleep(0.01)
                if ends:
                    await client.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                with trio.fail_after(20):
                    origin = await arrive(server, trusted)
            with trio.move_on_after(0.05):
                return origin, bytes(await server.receive_some())
            return origin, b""


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", second(), summed(second())])
@pytest.mark.parametrize("parts", [1, 3, 1000])
async def test_not_a_byte_beyond_the_header_is_taken(header: bytes, parts: int) -> None:
    data = header + b"hello"
    step = max(1, len(data) // parts)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    origin, rest = await met(pieces, HERE)
    assert origin == Origin(("192.0.2.7", 4711), ("198.51.100.1", 443), prefixed=True)
    assert b"hello".startswith(rest)
    assert rest


async def test_nobody_else_is_asked_for_a_header_and_their_bytes_stay() -> None:
    """E22."""
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
    elsewhere = Trusted(networks("192.0.2.0/24"), prefixed=True, terminates=True, form=None, forwarded="")
    for trusted in (None, elsewhere):
        assert await met([header], trusted) == (DIRECT, header)


async def test_a_proxy_without_the_protocol_is_heard_and_its_bytes_stay() -> None:
    quiet = Trusted(networks("127.0.0.1"), prefixed=False, terminates=True, form=None, forwarded="")
    assert await met([b"GET "], quiet) == (Origin(heard=True), b"GET ")


@pytest.mark.parametrize("data", [b"PROXY TCP4 192.0", SIGNATURE, b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_proxy_that_does_not_begin_as_it_has_to_is_refused(data: bytes) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await met([data], HERE, ends=True)
    assert caught.group_contains(BadPrefix)


async def test_a_probe_that_only_connects_is_no_mistake() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await met([], HERE, ends=True)
    assert caught.group_contains(ConnectionAbortedError)
