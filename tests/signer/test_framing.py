"""The frames of the signer's wire, and what a peer that does not keep to them meets."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signer.contract.framing import (
    MAX_BATCH,
    BadFrame,
    Frames,
    FrameTooLarge,
    decode_answers,
    decode_batch,
    encode_answers,
    encode_batch,
)
from signer.contract.messages import (
    VERSION,
    Answer,
    Answers,
    Ask,
    Batch,
    GeneratedKey,
    GenerateKey,
    No,
    SignCrl,
    UnwrapKey,
)
from signer.contract.refusal import SignerRefusal
from tests.signer.kit import good_ask

VERBS = [
    good_ask(),
    UnwrapKey("ra", b"w" * 256, "pkcs1v15", 16),
    SignCrl("root", 1, 2, 3, [(b"\1" * 16, 4, 1)]),
    GenerateKey("ED25519"),
]


def frame_of(count: int) -> bytes:
    return bytes(encode_batch(Batch(VERSION, [Ask(n, VERBS[n % len(VERBS)]) for n in range(count)])))


def test_a_batch_comes_back_as_it_was_sent():
    batch = Batch(VERSION, [Ask(n, verb) for n, verb in enumerate(VERBS)])
    [payload] = Frames(MAX_BATCH).feed(bytes(encode_batch(batch)))
    assert decode_batch(payload) == batch


def test_answers_come_back_as_they_were_sent():
    answers = Answers([Answer(7, No(SignerRefusal.LINT, "no")), Answer(8, GeneratedKey(b"s", b"p", b"x"))])
    [payload] = Frames(MAX_BATCH).feed(bytes(encode_answers(answers)))
    assert decode_answers(payload) == answers


@given(st.lists(st.integers(0, 3), max_size=4), st.lists(st.integers(1, 1500), max_size=12))
def test_frames_are_found_however_the_stream_is_cut(counts, cuts):
    frames = [frame_of(count) for count in counts]
    stream, found, reader = b"".join(frames), [], Frames(MAX_BATCH)
    for cut in [*cuts, len(stream)]:
        found += [bytes(each) for each in reader.feed(stream[:cut])]
        stream = stream[cut:]
    assert found == [each[4:] for each in frames]


@pytest.mark.parametrize("length", [0, MAX_BATCH + 1, 2**32 - 1])
def test_an_impossible_length_is_refused_before_a_byte_of_it_is_read(length):
    with pytest.raises(BadFrame):
        Frames(MAX_BATCH).feed(length.to_bytes(4, "big"))


def test_an_impossible_length_is_refused_on_the_short_way_too():
    with pytest.raises(BadFrame):
        Frames(2).feed(frame_of(0))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_decoder_do_anything_but_refuse(payload):
    for decode in (decode_batch, decode_answers):
        try:
            decode(payload)
        except BadFrame:
            continue


@given(st.integers(0, 3), st.data())
def test_a_bent_frame_is_a_batch_or_refused(count, data):
    payload = bytearray(frame_of(count + 1)[4:])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = decode_batch(bytes(payload))
    except BadFrame:
        return
    assert isinstance(batch, Batch)


def test_fields_that_are_not_of_the_contract_are_refused():
    bent = msgspec.msgpack.encode([VERSION, [[1, ["generate-key", "ED25519", "more"]]], "more"])
    with pytest.raises(BadFrame):
        decode_batch(bent)


def test_a_verb_that_would_sign_bytes_does_not_exist():
    with pytest.raises(BadFrame):
        decode_batch(msgspec.msgpack.encode([VERSION, [[1, ["sign", "root", b"anything"]]]]))


def test_a_frame_that_is_too_large_is_not_sent():
    with pytest.raises(FrameTooLarge):
        encode_batch(Batch(VERSION, [Ask(1, UnwrapKey("ra", bytes(MAX_BATCH), "pkcs1v15", 16))]))
