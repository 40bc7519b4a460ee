"""Requests that two parsers could read in two ways (RFC 9112, 11.2), against a listening socket, one by one.

Whatever is refused gets its status and a closed connection, and nothing behind it reaches the application.
"""

from __future__ import annotations

import re

import pytest

from tests.doubles.http1 import HOST, Remembering, everything, said, served

POST = b"POST / HTTP/1.1\r\n" + HOST
HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = b"0\r\n\r\n"


def coded(field: bytes, body: bytes = EMPTY) -> bytes:
    return POST + field + b"\r\n\r\n" + body


def sized(field: bytes, body: bytes = b"abcde") -> bytes:
    return POST + field + b"\r\n\r\n" + body


def chunks(body: bytes) -> bytes:
    return POST + CHUNKED + b"\r\n" + body


REFUSED = {
    "CL.TE": (400, POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nG"),
    "TE.CL": (400, POST + CHUNKED + b"Content-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n"),
    "CL.0 and TE": (400, POST + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n" + EMPTY),
    "xchunked": (400, coded(b"Transfer-Encoding: xchunked")),
    "chunked, identity": (400, coded(b"Transfer-Encoding: chunked, identity")),
    "identity": (400, coded(b"Transfer-Encoding: identity")),
    "identity, chunked": (501, coded(b"Transfer-Encoding: identity, chunked")),
    "gzip, chunked": (501, coded(b"Transfer-Encoding: gzip, chunked")),
    "chunked twice": (400, coded(b"Transfer-Encoding: chunked, chunked")),
    "two lines of codings": (400, coded(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
    "two lines of chunked": (400, coded(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    "two lines in two cases": (400, coded(b"Transfer-Encoding: chunked\r\ntransfer-encoding: x")),
    "chunked with a vertical tab": (400, coded(b"Transfer-Encoding: \x0bchunked")),
    "chunked with a form feed": (400, coded(b"Transfer-Encoding:\x0cchunked")),
    "chunked in quotes": (400, coded(b'Transfer-Encoding: "chunked"')),
    "chunked in single quotes": (400, coded(b"Transfer-Encoding: 'chunked'")),
    "chunked with a parameter": (400, coded(b"Transfer-Encoding: chunked;q=1")),
    "chunked before blanks, which others do not strip": (400, coded(b"Transfer-Encoding: chunked \t")),
    "an empty element before chunked": (501, coded(b"Transfer-Encoding: ,chunked")),
    "an empty element behind chunked": (400, coded(b"Transfer-Encoding: chunked,")),
    "chunked with NUL": (400, coded(b"Transfer-Encoding: chunked\0")),
    "chunked with 0xff": (400, coded(b"Transfer-Encoding: \xffchunked")),
    "no coding": (400, coded(b"Transfer-Encoding:")),
    "a coding behind a bare CR": (400, coded(b"Foo: bar\rTransfer-Encoding: chunked")),
    "a coding behind a bare LF": (400, coded(b"Foo: bar\nTransfer-Encoding: chunked")),
    "a coding behind two CR": (400, coded(b"Foo: bar\r\r\nTransfer-Encoding: chunked")),
    "a coding behind LF CR": (400, coded(b"Foo: bar\n\rTransfer-Encoding: chunked")),
    "a coding with a space before the colon": (400, coded(b"Transfer-Encoding : chunked")),
    "a coding with a tab before the colon": (400, coded(b"Transfer-Encoding\t: chunked")),
    "a coding with a space before its name": (400, coded(b" Transfer-Encoding: chunked")),
    "a coding with a tab before its name": (400, coded(b"Foo: x\r\n\tTransfer-Encoding: chunked")),
    "a coding that is folded": (400, coded(b"Transfer-Encoding:\r\n chunked")),
    "a coding in HTTP/1.0": (400, b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + EMPTY),
    "a coding without its colon": (400, coded(b"Transfer-Encoding chunked")),
    "two equal lengths": (400, sized(b"Content-Length: 5\r\nContent-Length: 5")),
    "two lengths": (400, sized(b"Content-Length: 5\r\nContent-Length: 6")),
    "two lengths in two cases": (400, sized(b"Content-Length: 5\r\ncontent-length: 0")),
    "a list of lengths": (400, sized(b"Content-Length: 5, 5")),
    "a length with a plus": (400, sized(b"Content-Length: +5")),
    "a length with a minus": (400, sized(b"Content-Length: -5")),
    "a length in hex": (400, sized(b"Content-Length: 0x5")),
    "a length with an underscore": (400, sized(b"Content-Length: 0_5")),
    "a length with a space in it": (400, sized(b"Content-Length: 5 0")),
    "a length with a fraction": (400, sized(b"Content-Length: 5.0")),
    "a length with an exponent": (400, sized(b"Content-Length: 5e0")),
    "a length in other digits": (400, sized("Content-Length: \u0665".encode())),
    "a superscript length": (400, sized(b"Content-Length: \xb2")),
    "an empty length": (400, sized(b"Content-Length:")),
    "a length of blanks": (400, sized(b"Content-Length:  \t ")),
    "a length with a vertical tab": (400, sized(b"Content-Length: \x0b5")),
    "a length with NUL": (400, sized(b"Content-Length: 5\0")),
    "a length beyond everything": (413, sized(b"Content-Length: 9999999999999999")),
    "a length beyond 64 bits": (400, sized(b"Content-Length: 99999999999999999999")),
    "a length with a space before the colon": (400, sized(b"Content-Length : 5")),
    "a length that is folded": (400, sized(b"Content-Length:\r\n 5")),
    "a field that is folded": (400, sized(b"Foo: x\r\n bar\r\nContent-Length: 5")),
    "a first field that is folded": (400, b"POST / HTTP/1.1\r\n Foo: x\r\n" + HOST + b"\r\n"),
    "only LF": (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    "LF after the request line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "LF at the end of the head": (400, b"GET / HTTP/1.1\r\n" + HOST + b"\n"),
    "CR after the request line": (400, b"GET / HTTP/1.1\r" + HOST + b"\r\n"),
    "CR in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Foo: a\rb\r\n\r\n"),
    "NUL in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Foo: a\0b\r\n\r\n"),
    "NUL in a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Fo\0o: a\r\n\r\n"),
    "NUL in the target": (400, b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a control character in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Foo: a\x01b\r\n\r\n"),
    "DEL in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Foo: a\x7fb\r\n\r\n"),
    "a field without a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n"),
    "a field without a colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Foo\r\n\r\n"),
    "a name in parentheses": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length(x): 5\r\n\r\n"),
    "a name beyond ASCII": (400, b"GET / HTTP/1.1\r\n" + HOST + "Föö: x\r\n\r\n".encode()),
    "a line of blanks first": (400, b" \r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a space before the method": (400, b" GET / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "two spaces before the target": (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "two spaces before the version": (400, b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a tab before the target": (400, b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a space behind the version": (400, b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n"),
    "a space in the target": (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "two targets": (400, b"GET / HTTP/1.1 /hidden HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a fragment": (400, b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a target beyond ASCII": (400, "GET /ö HTTP/1.1\r\n".encode() + HOST + b"\r\n"),
    "a target of no form": (400, b"GET hidden HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a target that is empty": (400, b"GET  HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an asterisk for GET": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an absolute target of another scheme": (400, b"GET ftp://gateway.example/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "https on a plain connection": (400, b"GET https://gateway.example/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an absolute target without a host": (400, b"GET http:///hidden HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an absolute target with a port alone": (400, b"GET http://:80/hidden HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an absolute target with a scheme alone": (400, b"GET http:// HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an absolute target with a user": (400, b"GET http://a@b/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Host: other.example\r\n\r\n"),
    "two equal Hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "two Hosts in HTTP/1.0": (400, b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n"),
    "two Hosts, the target absolute": (400, b"GET http://gateway.example/ HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "an absolute target without Host": (400, b"GET http://gateway.example/ HTTP/1.1\r\n\r\n"),
    "a list of Hosts": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "a Host with a path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "a Host with a user": (400, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    "a Host with a port that is none": (400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    "a method that is none": (400, b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a method that nobody knows": (501, b"SMUGGLE / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a method in lower case": (501, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (501, b"CONNECT gateway.example:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "TRACE": (501, b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/0.9 with its version": (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/1.10": (400, b"GET / HTTP/1.10\r\n" + HOST + b"\r\n"),
    "HTTP/1": (400, b"GET / HTTP/1\r\n" + HOST + b"\r\n"),
    "http/1.1": (400, b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    "HTTP / 1.1": (400, b"GET / HTTP /1.1\r\n" + HOST + b"\r\n"),
    "a ClientHello": (400, b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"),
    "a PROXY line that nobody asked for": (400, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + HIDDEN),
    "an expectation that nobody knows": (417, sized(b"Content-Length: 5\r\nExpect: 200-ok")),
    "two expectations": (400, sized(b"Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue")),
    "a size with 0x": (400, chunks(b"0x1\r\na\r\n" + EMPTY)),
    "a size with a plus": (400, chunks(b"+1\r\na\r\n" + EMPTY)),
    "a size with a minus": (400, chunks(b"-1\r\na\r\n" + EMPTY)),
    "a size with an underscore": (400, chunks(b"0_1\r\na\r\n" + EMPTY)),
    "a size with a space behind it": (400, chunks(b"1 \r\na\r\n" + EMPTY)),
    "a size with a space before it": (400, chunks(b" 1\r\na\r\n" + EMPTY)),
    "a size with a tab behind it": (400, chunks(b"1\t\r\na\r\n" + EMPTY)),
    "a size with a space before its extension": (400, chunks(b"1 ;a=b\r\na\r\n" + EMPTY)),
    "a size that overflows": (400, chunks(b"10000000000000001\r\na\r\n" + EMPTY)),
    "a size that wraps to nothing": (400, chunks(b"ffffffffffffffff1\r\na\r\n" + EMPTY)),
    "a size that is empty": (400, chunks(b"\r\na\r\n" + EMPTY)),
    "a size with a letter": (400, chunks(b"g\r\na\r\n" + EMPTY)),
    "a size behind LF alone": (400, chunks(b"1\na\r\n" + EMPTY)),
    "a size behind CR alone": (400, chunks(b"1\ra\r\n" + EMPTY)),
    "an extension with CR": (400, chunks(b"1;a\rb\r\na\r\n" + EMPTY)),
    "an extension with LF": (400, chunks(b"1;a\nb\r\na\r\n" + EMPTY)),
    "an extension with NUL": (400, chunks(b"1;a\0b\r\na\r\n" + EMPTY)),
    "an extension that is long": (400, chunks(b"1;" + b"a" * 300 + b"\r\na\r\n" + EMPTY)),
    "many extensions": (400, chunks((b"1;" + b"a" * 200 + b"\r\na\r\n") * 30 + EMPTY)),
    "a chunk that is longer than its size": (400, chunks(b"1\r\nab\r\n" + EMPTY)),
    "a chunk that is shorter than its size": (400, chunks(b"3\r\na\r\n0\r\n\r\n")),
    "a chunk behind LF alone": (400, chunks(b"1\r\na\n" + EMPTY)),
    "a chunk behind CR alone": (400, chunks(b"1\r\na\r" + EMPTY)),
    "a last chunk behind LF alone": (400, chunks(b"0\n\n")),
    "an end behind LF alone": (400, chunks(b"0\r\n\n")),
    "a trailer behind LF alone": (400, chunks(b"0\r\nFoo: x\n\r\n")),
    "a trailer that is none": (400, chunks(b"0\r\nGET / HTTP/1.1\r\n\r\n")),
    "a trailer that is folded": (400, chunks(b"0\r\nFoo: x\r\n y\r\n\r\n")),
    "a trailer with a space before the colon": (400, chunks(b"0\r\nFoo : x\r\n\r\n")),
    "trailers without an end": (431, chunks(b"0\r\n" + b"Foo: xxxxxxxx\r\n" * 700)),
    "a trailer without an end": (431, chunks(b"0\r\nFoo: " + b"x" * 9000)),
}


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
async def test_is_refused_and_hides_nothing(status: int, data: bytes):
    """RFC 9112: 2.2, 3, 5, 6.1, 6.3, 7.1. Nothing of it is given back."""
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        heard = await said(stream, data + HIDDEN)
    assert heard.startswith(b"HTTP/1.1 %d " % status), heard
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert b"Content-Type: text/plain" in head
    assert body.endswith(b"\n")
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert len(re.findall(rb"HTTP/1.1 \d", heard)) == 1
    assert app.came == []


TAKEN = {
    "chunked in another case": (coded(b"Transfer-Encoding: CHUNKED", b"3\r\nabc\r\n" + EMPTY), b"abc"),
    "chunked behind a tab": (coded(b"Transfer-Encoding:\tchunked", b"3\r\nabc\r\n" + EMPTY), b"abc"),
    "a size with zeros": (chunks(b"000003\r\nabc\r\n00\r\n\r\n"), b"abc"),
    "an extension": (chunks(b'3;a=b;c="d e"\r\nabc\r\n0;x\r\n\r\n'), b"abc"),
    "a chunk that looks like an end": (chunks(b"5\r\n0\r\n\r\n\r\n" + EMPTY), b"0\r\n\r\n"),
    "trailers, a length among them": (chunks(b"3\r\nabc\r\n0\r\nContent-Length: 9\r\nFoo: x\r\n\r\n"), b"abc"),
    "a length with blanks": (sized(b"Content-Length: \t5 \t"), b"abcde"),
    "a length with zeros": (sized(b"Content-Length: 0005"), b"abcde"),
    "a body that looks like a request": (sized(b"Content-Length: %d" % len(HIDDEN), HIDDEN), HIDDEN),
    "a length of nothing": (sized(b"Content-Length: 0", b""), b""),
    "an upgrade": (POST + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nabcde", b"abcde"),
    "a coding under another name": (sized(b"Content-Length: 5\r\nTransfer_Encoding: chunked"), b"abcde"),
    "an empty line first": (b"\r\n" + sized(b"Content-Length: 5"), b"abcde"),
}


@pytest.mark.parametrize(("data", "body"), TAKEN.values(), ids=TAKEN)
async def test_is_taken_as_the_rfc_says_and_ends_where_it_ends(data: bytes, body: bytes):
    """The request behind it is the next, and no other."""
    app = Remembering()
    last = b"GET /last HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    async with served(app) as server, await server.connect() as stream:
        heard = await said(stream, data + last)
    assert heard.count(b"HTTP/1.1 200 OK") == 2
    assert app.came == [("POST", b"/", body), ("GET", b"/last", b"")]


async def test_a_body_of_get_is_a_body():
    """RFC 9110, 9.3.1: it has no meaning, and must not be taken for a request."""
    app = Remembering()
    get = b"GET /a HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN
    async with served(app) as server, await server.connect() as stream:
        await stream.send_all(get)
        await stream.send_eof()
        await everything(stream)
    assert app.came == [("GET", b"/a", HIDDEN)]


async def test_an_absolute_target_replaces_the_host():
    """RFC 9112, 3.2.2: the Host that came with it is ignored."""
    app = Remembering()
    data = b"GET http://gateway.example:80/a?b HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n"
    async with served(app) as server, await server.connect() as stream:
        await said(stream, data)
    (scope,) = app.scopes
    assert (scope["raw_path"], scope["query_string"], scope["path"]) == (b"/a", b"b", "/a")
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"gateway.example:80"]


async def test_what_follows_a_body_of_length_nothing_is_the_next_request():
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        heard = await said(stream, sized(b"Content-Length: 0", b"") + b"Gx\r\n\r\n")
    assert [path for _, path, _ in app.came] == [b"/"]
    assert heard.count(b"HTTP/1.1 200") == 1
    assert heard.count(b"HTTP/1.1 400") == 1
