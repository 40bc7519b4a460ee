"""A DNS server for tests, on loopback, over UDP and TCP: it answers A and AAAA questions from a table."""

import struct
from ipaddress import ip_address

import trio


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def respond(asked, records, *, code=0, truncated=False, ident=None):
    """The answer to a question, with `records` of (owner, type, data)."""
    number = struct.unpack_from("!H", asked)[0] if ident is None else ident
    end = asked.index(b"\0", 12) + 5
    flags = 0x8180 | code | (0x0200 if truncated else 0)
    body = b"".join(
        encode(owner) + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for owner, kind, data in records
    )
    return struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0) + asked[12:end] + body


class Nameserver:
    """`records` maps (name, type) to addresses. `code` is the RCODE of every answer."""

    def __init__(self, records, *, code=0, truncate=False, forge=False):
        self._records = records
        self._code = code
        self._truncate = truncate
        self._forge = forge

    def _found(self, asked):
        end = asked.index(b"\0", 12)
        labels, position = [], 12
        while position < end:
            labels.append(asked[position + 1 : position + 1 + asked[position]].decode())
            position += 1 + asked[position]
        name, kind = ".".join(labels), struct.unpack_from("!H", asked, end + 1)[0]
        return [(name, kind, ip_address(each).packed) for each in self._records.get((name, kind), [])]

    async def _serve_udp(self, sock):
        while True:
            asked, peer = await sock.recvfrom(4096)
            if self._forge:
                wrong = struct.unpack_from("!H", asked)[0] ^ 1
                await sock.sendto(respond(asked, [], ident=wrong), peer)
            records = [] if self._truncate else self._found(asked)
            await sock.sendto(respond(asked, records, code=self._code, truncated=self._truncate), peer)

    async def _serve_tcp(self, stream):
        asked = (await stream.receive_some(4096))[2:]
        message = respond(asked, self._found(asked), code=self._code)
        await stream.send_all(struct.pack("!H", len(message)) + message)

    async def __aenter__(self):
        self._nursery_manager = trio.open_nursery()
        nursery = await self._nursery_manager.__aenter__()
        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(self._serve_tcp, 0, host="127.0.0.1", task_status=task_status)
        )
        port = listeners[0].socket.getsockname()[1]
        self._socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await self._socket.bind(("127.0.0.1", port))
        nursery.start_soon(self._serve_udp, self._socket)
        self._nursery = nursery
        self.address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        self._nursery.cancel_scope.cancel()
        await self._nursery_manager.__aexit__(None, None, None)
        self._socket.close()
