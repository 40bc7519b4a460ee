"""Frames before h2 sees them: all octets arrive in their order, what is too long does not, a goodbye is heard."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from gateway.serve.http2.frames import EVERY_STREAM, FRAME_OCTETS, Frames, Unbearable, goodbye
from tests.doubles.http2 import CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, PREFACE, frame

BLOCK = 64 * 1024
LEAVING = frame(GOAWAY, payload=bytes(8))


def begun(data: bytes = b"") -> Frames:
    frames = Frames(block=BLOCK)
    assert frames.take(PREFACE + data) == PREFACE + data
    return frames


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


KINDS = st.sampled_from([DATA, PING, 4, 5, 8, 200])
WHOLE = st.builds(lambda kind, stream, payload: frame(kind, 0, stream, payload), KINDS, st.integers(0, 99), st.binary())


@given(st.lists(WHOLE, max_size=8), st.binary(max_size=8), st.lists(st.integers(0, 1 << 20), max_size=9))
def test_whole_frames_pass_in_their_order_however_they_are_cut(whole, beginning, cuts) -> None:
    said = PREFACE + b"".join(whole)
    frames = Frames(block=BLOCK)
    assert b"".join(frames.take(each) for each in in_pieces(said + beginning, cuts)) == said
    assert frames.held == len(beginning)
    assert not frames.left


@given(st.lists(WHOLE | st.just(LEAVING), max_size=8), st.lists(st.integers(0, 1 << 20), max_size=9))
def test_a_goodbye_is_heard_and_h2_is_not_told(whole, cuts) -> None:
    frames = Frames(block=BLOCK)
    said = PREFACE + b"".join(whole)
    passed = b"".join(frames.take(each) for each in in_pieces(said, cuts))
    assert passed == PREFACE + b"".join(each for each in whole if each != LEAVING)
    assert frames.left is (LEAVING in whole)


@pytest.mark.parametrize(
    "other",
    [
        frame(GOAWAY, payload=bytes(7) + b"\2"),  # for a reason
        frame(GOAWAY, 0, 1, bytes(8)),  # of a stream, which has none
        frame(GOAWAY, payload=bytes(7)),  # too short to be one
    ],
)
def test_an_end_for_a_reason_and_one_that_is_none_are_for_h2(other) -> None:
    frames = begun()
    assert frames.take(other) == other
    assert not frames.left


def test_a_goodbye_in_the_midst_of_a_head_is_for_h2() -> None:
    frames = begun(frame(HEADERS, 0, 1, b"x"))
    assert frames.take(LEAVING) == LEAVING


def test_the_longest_frame_passes_and_a_longer_one_is_refused_by_its_first_octets() -> None:
    longest = frame(DATA, 0, 1, bytes(FRAME_OCTETS))
    assert begun().take(longest) == longest
    with pytest.raises(Unbearable) as refused:
        begun().take(frame(DATA, 0, 1, bytes(FRAME_OCTETS + 1))[:9])
    assert refused.value.code is ErrorCodes.FRAME_SIZE_ERROR


def test_a_frame_that_is_too_long_is_refused_in_the_midst_of_others() -> None:
    frames = begun()
    with pytest.raises(Unbearable):
        frames.take(frame(PING, payload=bytes(8)) + b"\xff\xff\xfe" + bytes(6))


def test_a_head_without_an_end_is_held_and_counted_and_refused_at_its_bound() -> None:
    piece = bytes(16_000)
    frames = begun(frame(HEADERS, 0, 1, piece))
    assert frames.held == 16_009
    for _ in range(3):
        frames.take(frame(CONTINUATION, 0, 1, piece))
    assert frames.held == 4 * 16_009
    with pytest.raises(Unbearable) as refused:
        frames.take(frame(CONTINUATION, 0, 1, piece)[:9])
    assert refused.value.code is ErrorCodes.ENHANCE_YOUR_CALM


def test_a_head_that_ends_is_held_no_longer_and_the_next_has_as_much_room() -> None:
    frames = begun()
    for stream in (1, 3, 5):
        frames.take(frame(HEADERS, 0, stream, bytes(16_000)))
        for _ in range(2):
            frames.take(frame(CONTINUATION, 0, stream, bytes(16_000)))
        frames.take(frame(CONTINUATION, END_HEADERS, stream, bytes(16_000)))
        assert frames.held == 0


def test_continuations_without_an_octet_fill_a_head_as_well() -> None:
    with pytest.raises(Unbearable):
        begun(frame(HEADERS, 0, 1)).take(frame(CONTINUATION, 0, 1) * (BLOCK // 9 + 2))


def test_our_goodbye_is_a_frame_of_the_connection_without_an_error() -> None:
    assert goodbye(EVERY_STREAM) == frame(GOAWAY, payload=b"\x7f\xff\xff\xff" + bytes(4))
    assert goodbye(5) == frame(GOAWAY, payload=b"\0\0\0\5" + bytes(4))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_no_octets_make_it_raise_anything_else(data, cuts) -> None:
    """The parser faces the network: what it holds is bounded, whatever comes."""
    frames = begun()
    try:
        passed = b"".join(frames.take(each) for each in in_pieces(data, cuts))
    except Unbearable:
        return
    assert len(passed) <= len(data)
    assert frames.held <= BLOCK + FRAME_OCTETS + 9
