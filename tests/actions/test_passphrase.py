"""Passphrases at rest and their check (est.md: argon2id; E90: guessing pays the full price)."""

import os
import threading

import pytest
import trio

from gateway.actions import passphrase
from gateway.actions.passphrase import (
    MOST_AT_ONCE,
    MOST_WAITING,
    PassphraseCheck,
    check_passphrase,
    hash_passphrase,
)
from gateway.domain.refusal import Refusal, RefusalReason


class Verifier:
    """A hash that costs nothing and counts; the passphrase of `h` is `h` backwards."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, phc: str, text: str) -> bool:
        self.calls += 1
        return text == phc[::-1]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_hash_is_argon2id_salted_and_verifies():
    first, second = hash_passphrase("correct horse"), hash_passphrase("correct horse")
    assert first.startswith("$argon2id$")
    assert first != second
    assert check_passphrase(first, "correct horse")
    assert not check_passphrase(first, "correct horsE")


@pytest.mark.parametrize("phc", ["", "plain", "$argon2id$", "$argon2id$v=19$m=1,t=1,p=1$AAAA$AAAA"])
def test_a_damaged_hash_matches_nothing(phc):
    assert not check_passphrase(phc, "anything")


def test_an_enormous_passphrase_is_never_hashed():
    assert not check_passphrase(hash_passphrase("x"), "x" * 1025)


def test_a_passphrase_that_is_no_text_matches_nothing():
    assert not check_passphrase(hash_passphrase("x"), "\ud800")


async def test_a_success_is_remembered_and_a_failure_is_not():
    verifier = Verifier()
    check = PassphraseCheck(verify=verifier)
    assert await check.matches("abc", "cba")
    assert await check.matches("abc", "cba")
    assert verifier.calls == 1
    assert not await check.matches("abc", "wrong")
    assert not await check.matches("abc", "wrong")
    assert verifier.calls == 3
    assert check.known("abc", "cba")
    assert not check.known("abc", "wrong")


async def test_a_changed_hash_forgets_the_old_passphrase():
    verifier = Verifier()
    check = PassphraseCheck(verify=verifier)
    assert await check.matches("abc", "cba")
    assert not await check.matches("abd", "cba")


async def test_hash_and_passphrase_cannot_be_shifted_against_each_other():
    check = PassphraseCheck(verify=Verifier())
    assert await check.matches("aa", "aa")
    assert not check.known("aaa", "a")


async def test_a_success_ages_out():
    verifier, clock = Verifier(), Clock()
    check = PassphraseCheck(verify=verifier, clock=clock, seconds=10)
    assert await check.matches("abc", "cba")
    clock.now = 9.9
    assert check.known("abc", "cba")
    clock.now = 10.0
    assert not check.known("abc", "cba")
    assert await check.matches("abc", "cba")
    assert verifier.calls == 2


async def test_memory_is_bounded_and_the_oldest_goes_first():
    check = PassphraseCheck(verify=Verifier(), most=3)
    for phc in ("ab", "cd", "ef", "gh"):
        assert await check.matches(phc, phc[::-1])
    assert not check.known("ab", "ba")
    assert all(check.known(phc, phc[::-1]) for phc in ("cd", "ef", "gh"))


async def test_the_loop_runs_on_while_a_passphrase_is_checked():
    begun, going = threading.Event(), threading.Event()

    def slow(phc: str, text: str) -> bool:
        begun.set()
        return going.wait(20)  # not for ever: a loop that stands still could not say so

    check = PassphraseCheck(verify=slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(check.matches, "a", "b")
        while not begun.is_set():
            await trio.sleep(0.001)
        for _ in range(4):
            await trio.sleep(0.01)
            assert not check.known("a", "b")
        going.set()
    assert check.known("a", "b")


async def test_the_doors_share_one_check():
    phc = hash_passphrase("a passphrase of this test")
    assert not passphrase.known(phc, "a passphrase of this test")
    assert not await passphrase.verify_passphrase(phc, "another passphrase")
    assert await passphrase.verify_passphrase(phc, "a passphrase of this test")
    assert passphrase.known(phc, "a passphrase of this test")


async def test_a_storm_of_guesses_is_refused_beyond_a_few_that_wait():
    """P16: what waits for a hash counts as under way, and would have everybody else refused."""
    going = threading.Event()

    def slow(phc: str, text: str) -> bool:
        going.wait()
        return False

    check = PassphraseCheck(verify=slow)
    outcomes: list[object] = []

    async def guess(number: int) -> None:
        try:
            outcomes.append(await check.matches("hash", f"guess {number}"))
        except Refusal as refusal:
            outcomes.append((refusal.reason, refusal.retry_after))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(guess, number)
        while len(outcomes) < 40 - MOST_AT_ONCE - MOST_WAITING:
            await trio.sleep(0.001)
        assert set(outcomes) == {(RefusalReason.BUSY, 1)}
        going.set()
    assert outcomes.count(False) == MOST_AT_ONCE + MOST_WAITING


async def test_a_fleet_with_one_passphrase_waits_for_one_check():
    going = threading.Event()
    calls: list[str] = []

    def slow(phc: str, text: str) -> bool:
        calls.append(text)
        going.wait()
        return True

    check = PassphraseCheck(verify=slow)
    right: list[bool] = []

    async def device() -> None:
        right.append(await check.matches("hash", "passphrase"))

    async with trio.open_nursery() as nursery:
        for _ in range(MOST_AT_ONCE + MOST_WAITING):
            nursery.start_soon(device)
        while len(calls) < MOST_AT_ONCE:
            await trio.sleep(0.001)
        going.set()
    assert right == [True] * (MOST_AT_ONCE + MOST_WAITING)
    assert len(calls) == MOST_AT_ONCE


async def test_checks_have_what_others_leave_over_and_the_loop_keeps_its_priority():
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def nice(phc: str, text: str) -> bool:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) > before

    assert await PassphraseCheck(verify=nice).matches("a", "b")
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


async def test_what_goes_wrong_in_a_check_is_raised():
    def broken(phc: str, text: str) -> bool:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await PassphraseCheck(verify=broken).matches("a", "b")
