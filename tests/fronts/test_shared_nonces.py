"""Nonces of several workers: real processes on one piece of memory (A7, A8, A131; RFC 8555, 6.5.1)."""

import os
import subprocess
import sys
import time

from gateway.fronts.acme.nonces import Book, Nonces, Region, alone, size
from gateway.serve.workers import slots
from gateway.serve.workers.memory import Memory
from tests.doubles.gateway import ROOT, environment

EPOCH = 0.0
KEY = bytes(16)

SPENDER = """
import os, sys, time
from gateway.fronts.acme.nonces import Book, Nonces
from gateway.serve.workers.memory import Memory
memory = Memory(int(sys.argv[1]))
book = Nonces(os.urandom, time.monotonic, Book(bytes(16), memory.regions(), int(sys.argv[2]), 0.0))
nonces = sys.stdin.read().split()
print(sum(book.spend(nonce) for nonce in nonces))
"""


def test_of_several_processes_that_spend_the_same_nonces_each_nonce_has_one_spender():
    descriptor = slots.make()
    try:
        memory = Memory(descriptor)
        made = [Nonces(os.urandom, time.monotonic, Book(KEY, memory.regions(), slot, EPOCH)) for slot in (0, 7)]
        nonces = [made[number % 2].make() for number in range(6000)]
        spenders = [
            subprocess.Popen(
                [sys.executable, "-c", SPENDER, str(descriptor), str(slot)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[descriptor],
                env=environment(),
                cwd=ROOT,
                text=True,
            )
            for slot in (1, 2, 3)
        ]
        for each in spenders:
            each.stdin.write(" ".join(nonces))
        for each in spenders:
            each.stdin.close()
        told = [int(each.stdout.read()) for each in spenders]
        for each in spenders:
            each.stdout.close()
            assert each.wait(60) == 0
        assert sum(told) == len(nonces), told
        assert not any(made[0].spend(nonce) for nonce in nonces[:100])
    finally:
        # The mapping keeps the memory; this process has no lock on it any more.
        os.close(descriptor)


def region(buffer: bytearray) -> Region:
    return Region(memoryview(buffer), window=64)


def test_who_takes_a_place_over_goes_on_behind_the_last_number_and_what_was_made_before_is_spent_once():
    buffer = bytearray(size(64))
    first = region(buffer)
    first.take_over()
    made = [number for _ in range(30) for number in first.numbers(1)]
    assert all(first.spend(number) for number in made[::2])
    second = region(buffer)
    second.take_over()
    again = [number for _ in range(8) for number in second.numbers(1)]
    assert min(again) > max(made)
    assert not any(second.spend(number) for number in made[::2])
    assert all(second.spend(number) for number in (*made[1::2], *again))
    assert not second.spend(again[-1] + 1), "nobody has made that one"


def test_a_mark_that_is_taken_back_belongs_to_a_nonce_that_is_too_old():
    """A8: what falls out is refused, never forgotten as unspent, wherever its maker was killed."""
    buffer = bytearray(size(64))
    maker = region(buffer)
    maker.take_over()
    spent = []
    for _ in range(1000):
        (number,) = maker.numbers(1)
        assert maker.spend(number)
        spent.append(number)
        if number % 7 == 0:
            maker = region(buffer)
            maker.take_over()
        assert not any(region(buffer).spend(each) for each in spent[-90:])


def test_a_nonce_of_another_key_or_of_a_place_that_is_none_is_not_ours():
    one, other = alone(os.urandom, time.monotonic), alone(os.urandom, time.monotonic)
    assert not Nonces(os.urandom, time.monotonic, other).spend(Nonces(os.urandom, time.monotonic, one).make())
    far = Book(one.key, (*one.regions, *other.regions), 1, one.epoch)
    assert not Nonces(os.urandom, time.monotonic, one).spend(Nonces(os.urandom, time.monotonic, far).make())
