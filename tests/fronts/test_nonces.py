"""Nonces (RFC 8555, 6.5): A7, A8, A10, and as far as one process goes A131."""

import base64
import itertools
import operator
import os
import re

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.fronts.acme.nonces import Nonces, alone


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def nonces(clock=None, **named):
    ticking = clock or Clock()
    return Nonces(os.urandom, ticking, alone(os.urandom, ticking, **named))


def test_a_nonce_is_short_base64url_without_padding():
    # A7; certbot refuses any other character.
    book = nonces()
    for _ in range(1000):
        made = book.make()
        assert re.fullmatch("[A-Za-z0-9_-]{1,64}", made)


def test_a_nonce_is_spent_once():
    book = nonces()
    made = book.make()
    assert book.spend(made)
    assert not book.spend(made)


def test_nonces_are_spent_in_any_order():
    book = nonces()
    made = [book.make() for _ in range(100)]
    assert all(book.spend(nonce) for nonce in reversed(made))
    assert not any(book.spend(nonce) for nonce in made)


async def test_of_a_hundred_spenders_one_succeeds():
    book = nonces()
    made = book.make()
    won = []

    async def spender():
        await trio.lowlevel.checkpoint()
        if book.spend(made):
            won.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(spender)
    assert len(won) == 1


def test_nonces_do_not_repeat_and_do_not_show_their_number():
    book = nonces()
    made = [book.make() for _ in range(1000)]
    assert len(set(made)) == 1000
    # Neighbours have no more characters in common than chance gives: 22 of 64 kinds each, so one in three pairs has one.
    alike = [sum(map(operator.eq, *pair)) for pair in itertools.pairwise(made)]
    assert max(alike) <= 6
    assert sum(alike) < 700


def test_who_does_not_know_the_key_makes_none():
    # A whole block each time: what opens to anything but a number of ours is refused, and spends nothing.
    book = nonces()
    made = book.make()
    others = [base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode() for _ in range(5000)]
    assert not any(book.spend(each) for each in others)
    assert book.spend(made)


def test_a_nonce_of_before_a_restart_is_not_ours():
    assert not nonces().spend(nonces().make())


def test_a_nonce_ages_out_after_an_hour():
    clock = Clock()
    book = nonces(clock)
    early, late = book.make(), book.make()
    clock.seconds += 3600
    assert book.spend(early)
    clock.seconds += 2
    assert not book.spend(late)


def test_what_was_made_before_it_was_asked_for_has_nearly_its_whole_lifetime():
    clock = Clock()
    book = nonces(clock)
    book.make()
    clock.seconds += 3500
    late = book.make()
    clock.seconds += 3500
    assert book.spend(late)


def test_numbers_are_given_out_up_to_the_end_of_a_piece():
    # A mark must never be cleared by a number that is behind it.
    region = alone(os.urandom, Clock(), window=64).regions[0]
    region.take_over()
    given_out = [region.numbers(5) for _ in range(4)]
    assert given_out == [range(5), range(5, 8), range(8, 13), range(13, 16)]


def test_what_is_remembered_has_one_size_and_the_oldest_nonces_fall_out():
    # A8: a flood of newNonce costs no memory; what falls out is refused, never forgotten as unspent.
    book = nonces(window=64)
    spent, unspent = book.make(), book.make()
    assert book.spend(spent)
    for _ in range(62):
        book.make()
    assert book.spend(unspent)
    newer = [book.make() for _ in range(64)]
    assert not book.spend(spent)
    assert not book.spend(unspent)
    assert all(book.spend(nonce) for nonce in newer)
    assert not any(book.spend(nonce) for nonce in newer)


def test_a_window_is_whole_bytes():
    with pytest.raises(ValueError):
        nonces(window=9)


@given(st.text(max_size=80) | st.from_regex("[A-Za-z0-9_-]{22}", fullmatch=True))
def test_what_we_did_not_make_is_refused(text):
    assert not BOOK.spend(text)


@given(st.integers(0, 21), st.sampled_from("ABCDwxyz0189-_+/ é"))
def test_a_nonce_that_was_changed_is_refused_or_spent_with_its_original(position, character):
    made = BOOK.make()
    changed = made[:position] + character + made[position + 1 :]
    assert BOOK.spend(changed) + BOOK.spend(made) == 1


BOOK = nonces()
