"""Chunked bodies: whole, in any pieces, bent, and too much of everything (RFC 9112, 7.1)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.serve.http1.body import EXTENSIONS, TRAILERS, Chunked
from gateway.serve.http1.head import Unreadable

SIZES = st.sampled_from([b"%x", b"%X", b"0000%x"])
EXTENSION = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"'])
TRAILER = st.sampled_from([b"Foo: bar\r\n", b"Content-Length: 5\r\n", b"X:\r\n"])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A chunked body, and what is in it."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    chunks = [draw(SIZES) % len(each) + draw(EXTENSION) + b"\r\n" + each + b"\r\n" for each in parts]
    trailers = b"".join(draw(st.lists(TRAILER, max_size=2)))
    return b"".join(chunks) + b"0" + draw(EXTENSION) + b"\r\n" + trailers + b"\r\n", b"".join(parts)


def fed(pieces: list[bytes]) -> tuple[bytes, Chunked]:
    chunked, content = Chunked(), b""
    for piece in pieces:
        if chunked.done:
            chunked.rest += piece
        else:
            content += chunked.feed(piece)
    return content, chunked


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@settings(deadline=None)
@given(bodies(), st.binary(max_size=20), st.lists(st.integers(0, 10_000), max_size=8))
def test_a_body_is_what_was_sent_however_it_comes_and_what_follows_is_left(body, behind, places):
    encoded, content = body
    found, chunked = fed(cut(encoded + behind, places))
    assert chunked.done
    assert found == content
    assert chunked.rest == behind


@settings(deadline=None)
@given(
    bodies(), st.integers(0, 10_000), st.binary(min_size=1, max_size=3), st.lists(st.integers(0, 10_000), max_size=6)
)
def test_a_bent_body_is_the_same_to_whoever_reads_it_in_pieces(body, place, noise, places):
    """Cutting never decides whether a body is refused, nor what is in it."""

    def outcome(pieces: list[bytes]) -> object:
        try:
            content, chunked = fed(pieces)
        except Unreadable:
            return "refused"
        return content, chunked.done, chunked.rest

    encoded, _ = body
    at = place % len(encoded)
    bent = encoded[:at] + noise + encoded[at + 1 :]
    whole = outcome([bent])
    assert outcome(cut(bent, places)) == whole
    assert outcome([bent[index : index + 1] for index in range(len(bent))]) == whole


def test_a_body_of_single_octets_cannot_carry_kilobytes_of_extensions():
    """CVE-2023-39326."""
    with pytest.raises(Unreadable):
        fed([b"1;" + b"x" * 99 + b"\r\na\r\n"] * (EXTENSIONS // 100 + 1))


@pytest.mark.parametrize(
    "trailers", [b"X: " + b"y" * TRAILERS, b"X: y\r\n" * 101, b"X: yyyyyyyy\r\n" * (TRAILERS // 13 + 1)]
)
def test_trailers_have_an_end(trailers):
    with pytest.raises(Unreadable) as refused:
        fed([b"0\r\n", trailers])
    assert refused.value.status == 431


def test_a_size_that_never_ends_is_refused_before_much_of_it_is_kept():
    with pytest.raises(Unreadable):
        fed([b"0"] * 300)
