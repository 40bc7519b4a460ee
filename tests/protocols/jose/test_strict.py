"""Strict JSON (A17, A26)."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Malformed
from protocols.jose import base64url, strict

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_sound_json_is_read(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert strict.read(text, field="payload") == value


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'{"\\ud800":1}',
        b"NaN",
        b"[-Infinity]",
        b"1" * 5000,
        b'"\x01"',
        b"{'a':1}",
        b'{"a":1,}',
        b"/**/{}",
        b"nul",
    ],
)
def test_what_is_not_json_is_malformed(wrong):
    with pytest.raises(Malformed) as caught:
        strict.read(wrong, field="payload")
    assert caught.value.field == "payload"


def test_an_escaped_pair_of_surrogates_is_one_character():
    assert strict.read(b'"\\ud83d\\ude00"', field="payload") == "\U0001f600"


def test_a_member_twice_is_told_by_name_and_its_name_is_cut():
    with pytest.raises(Malformed, match=r"'aa*' twice") as caught:
        strict.read(b'{"b":1,"%b":1,"%b":2}' % (b"a" * 500, b"a" * 500), field="payload")
    assert len(caught.value.detail) < 200


def test_depth_and_breadth_are_limited():
    # OpenBao's CVE-2025-59043: cost before any check of who asks
    for opening in (b"[", b'{"a":'):
        with pytest.raises(Malformed, match="too many"):
            strict.read(opening * (strict.BRACES + 1), field="payload")
    deep = b"[" * strict.BRACES + b"]" * strict.BRACES
    assert strict.read(deep, field="payload")
    wide = {str(number): 0 for number in range(strict.MEMBERS)}
    assert strict.read(json.dumps(wide).encode(), field="payload") == wide
    with pytest.raises(Malformed):
        strict.read(json.dumps({**wide, "more": 0}).encode(), field="payload")


@pytest.mark.parametrize("other", [b"[]", b"null", b'"{}"', b"1"])
def test_only_an_object_has_members(other):
    # A26
    with pytest.raises(Malformed, match="not a JSON object"):
        strict.members(other, field="payload")


def test_a_shape_names_the_member_that_is_wrong():
    class Shape(msgspec.Struct):
        name: str

    assert strict.shape({"name": "x", "more": 1}, Shape, field="payload").name == "x"
    with pytest.raises(Malformed, match=r"\$\.name"):
        strict.shape({"name": 1}, Shape, field="payload")
    with pytest.raises(Malformed, match="name"):
        strict.shape({}, Shape, field="payload")


SEEDS = (
    b'{"a":"b","c":{"d":["e",null,true,{"f":"g"}]}}',
    b'{"identifiers":[{"type":"dns","value":"a.example"}],"x":12}',
    b'{"a":"\xc3\xa4","a ":"\\u0061"}',
    b'{"a":1,"b":{"a":"x","a":"y"}}',
    b"[1.5,-0,1e5,123456789012345678901234567890]",
)
INSERTS = st.sampled_from(
    [*(bytes((octet,)) for octet in b'"{}[],:\\ \0\x1f\x7f\x80\xffabn01.-+eE/\t\r\n'), b'"a":"b",', b"\xed\xa0\x80"]
)


def twice_seen(text: bytes) -> object:
    """What the standard library reads, or None for what is no JSON, has a member twice or a number that is none."""

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs) or len(pairs) > strict.MEMBERS:
            raise ValueError
        return dict(pairs)

    def none(text: str) -> object:
        raise ValueError

    try:
        value = json.loads(text.decode(), object_pairs_hook=members, parse_constant=none)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return None
    return (value,)


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 60), INSERTS | st.none()), max_size=4))
def test_two_readers_agree_on_every_text_and_on_what_it_says(text, damage):
    # A17: what the quick reader takes is what one that sees every member takes, and as the same value.
    for place, octets in damage:
        text = text[:place] + (text[place + 1 :] if octets is None else octets + text[place:])
    try:
        found: object = (strict.read(text, field="payload"),)
    except Malformed:
        found = None
    assert repr(found) == repr(twice_seen(text))


class Inner(msgspec.Struct):
    c: str


class Known(msgspec.Struct):
    a: str
    b: tuple[Inner]


FORM = strict.Form(Known, strings=5)


@given(
    st.sampled_from(
        [
            b'{"a":"x","b":[{"c":"y"}]}',
            b'{"a":"x","b":[{"c":"y"}],"c":[1]}',
            b'{"a":"x","a":"x","b":[{"c":"y"}]}',
            b'{"b":[{"c":"y"}],"a":"\\"x"}',
        ]
    ),
    st.lists(st.tuples(st.integers(0, 40), INSERTS | st.none()), max_size=3),
)
def test_a_form_takes_a_text_only_as_the_reader_that_sees_every_member_does(text, damage):
    # A17: what is read in one pass is what is there, each member once and none beside.
    for place, octets in damage:
        text = text[:place] + (text[place + 1 :] if octets is None else octets + text[place:])
    found = FORM.exact(text)
    if found is not None:
        members = strict.members(text, field="payload")
        assert found == strict.shape(members, Known, field="payload")
        assert (set(members), [set(each) for each in members["b"]]) == ({"a", "b"}, [{"c"}])


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (b' { "b" : [ { "c" : "y" } ] , "a" : "\xc3\xa4" } ', True),
        (b'{"a":"\\u0061","b":[{"c":"y"}]}', True),
        (b'{"a":"x","b":[{"c":"y"}],"a":"x"}', False),
        (b'{"a":"x","b":[{"c":"y","c":"z"}]}', False),
        (b'{"a":"x","b":[{"c":"y"}],"d":1}', False),
        (b'{"a":"x","b":[{"c":"\\""}]}', False),
        (b'{"a":"x","b":[{"c":"\\ud800"}]}', False),
        (b'{"a":"x","b":[],"d":"e"}', False),
        (b'{"a":"x","d":[{"c":"y"}]}', False),
        (b'{"a":"x","b":' + b"[" * 60_000 + b'"""""', False),
    ],
)
def test_a_form_is_of_exactly_its_members(text, taken):
    assert (FORM.exact(text) is not None) is taken


@pytest.mark.parametrize(
    "twice",
    [b'{"a":"b","a":"b"}', b'{"a":{"b":"c","b":"d"}}', b'[{"a":["x"],"a":["y"]}]', b'{"":"","":""}', b'{"a":1,"a":1}'],
)
def test_a_member_twice_is_seen_wherever_it_stands(twice):
    with pytest.raises(Malformed, match="twice"):
        strict.read(twice, field="payload")


@given(st.binary(max_size=100))
def test_octets_have_one_spelling(octets):
    text = base64url.encode(octets)
    assert base64url.decode(text, field="x") == octets
    assert not set(text) & set("+/=")


@given(st.text(max_size=12) | st.text("AQgw-_+/= ", max_size=12))
def test_text_is_a_canonical_spelling_or_malformed(text):
    with contextlib.suppress(Malformed):
        assert base64url.encode(base64url.decode(text, field="x")) == text
