"""Answers of servers under test, out of bytes in whatever pieces they come (RFC 9112, 6 and 7.1)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.answers import Reading
from bench.load.conversation import Failed

MEASURED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: a: b \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n"
)
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nReplay-Nonce: abc\r\n\r\n"


@given(st.lists(st.sampled_from([MEASURED, CHUNKED, NO_CONTENT]), min_size=1, max_size=4), st.data())
def test_however_the_bytes_are_cut_the_answers_are_the_same(wires: list[bytes], data: st.DataObject):
    whole = b"".join(wires)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=8)) | {0, len(whole)})
    reading, found = Reading(), []
    for start, end in pairwise(cuts):
        reading.feed(whole[start:end])
        while (answer := reading.next()) is not None:
            found.append(answer)
    assert [each.status for each in found] == [int(wire[9:12]) for wire in wires]
    assert [each.body for each in found] == [b"" if wire == NO_CONTENT else b"hello" for wire in wires]
    assert not reading.begun
    assert not reading.closing


def test_header_names_are_in_lower_case_and_values_keep_their_colons():
    reading = Reading()
    reading.feed(MEASURED)
    answer = reading.next()
    assert answer is not None
    assert answer.headers["x-y"] == "a: b"


def test_an_answer_to_head_has_no_body_whatever_its_length_says():
    reading = Reading()
    reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + MEASURED)
    head, following = reading.next(head_only=True), reading.next()
    assert head is not None
    assert head.body == b""
    assert following is not None
    assert following.body == b"hello"


def test_an_interim_answer_is_passed_over():
    reading = Reading()
    reading.feed(b"HTTP/1.1 100 Continue\r\n\r\n" + MEASURED)
    answer = reading.next()
    assert answer is not None
    assert answer.status == 200


def test_without_a_length_the_body_ends_with_the_connection():
    reading = Reading()
    reading.feed(b"HTTP/1.0 200 OK\r\n\r\nall of")
    assert reading.next() is None
    reading.feed(b" it")
    answer = reading.next(ended=True)
    assert answer is not None
    assert answer.body == b"all of it"
    assert reading.closing


@pytest.mark.parametrize("line", [b"Connection: close", b"connection: Close"])
def test_a_server_that_says_so_closes(line: bytes):
    reading = Reading()
    reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + line + b"\r\n\r\n")
    assert reading.next() is not None
    assert reading.closing


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_a_failure_and_no_answer(wire: bytes):
    reading = Reading()
    reading.feed(wire)
    with pytest.raises(Failed):
        reading.next()


@given(st.binary(max_size=300))
def test_no_bytes_bring_the_reader_down(junk: bytes):
    reading = Reading()
    reading.feed(junk)
    try:
        reading.next()
        reading.next(ended=True)
    except Failed:
        pass
