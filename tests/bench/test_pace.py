"""The machine's pace: means over the seconds of a run, and a program that samples them and ends with whoever asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from bench import pace
from bench.floors import PLAN, Operations
from bench.pace import Sample, Sampled, mean, read, within, written

ROOT = Path(__file__).parents[2]
NAMES = [each.name for each in fields(Operations)]


def rounds(*of_each: float, handshake_of: int = 1) -> list[Sample]:
    """A round a second from second one on, in which every operation took so long; a handshake every so many rounds."""
    whole = [Sample(at, dict.fromkeys(NAMES, took)) for at, took in enumerate(of_each, 1)]
    for number, each in enumerate(whole):
        if number % handshake_of:
            del each.taken["handshake"]
    return whole


def test_means_are_of_the_rounds_within_the_spans_alone():
    samples = rounds(10, 20, 40, 80)
    assert [each.moment for each in within(samples, [(1.5, 3.0), (4.0, 9.0)])] == [2, 4]
    assert mean(samples, [(1.5, 3.0), (4.0, 9.0)]).verify_p256 == pytest.approx(32)
    assert mean(samples).verify_p256 == pytest.approx(64 / 3)
    assert within(samples, ()) == samples


def test_a_mean_is_neither_the_best_moment_nor_the_median():
    assert mean(rounds(80, 80, 80, 240)).sign_p256 == pytest.approx(96)


def test_what_is_taken_in_some_rounds_only_has_the_mean_of_those():
    found = mean(rounds(10, 20, 40, 80, handshake_of=2))
    assert (found.handshake, found.sign_p256) == (pytest.approx(16), pytest.approx(64 / 3))


def test_what_no_round_of_a_span_had_has_the_mean_of_all_its_rounds():
    found = mean(rounds(10, 20, 40, 80, handshake_of=2), [(2.0, 3.0)])
    assert (found.handshake, found.sign_p256) == (pytest.approx(16), pytest.approx(20))
    assert mean(rounds(10, 30), [(100.0, 200.0)]).sign_p256 == pytest.approx(15)


def test_the_mean_is_that_of_who_did_nothing_else():
    # A second at 100 us each and one at 200: 10,000 and 5,000 of them, in two seconds.
    assert mean(rounds(100, 200)).issue_p256 == pytest.approx(2e6 / 15_000)


def test_nothing_sampled_is_said():
    with pytest.raises(ValueError, match="verify_p256"):
        mean([])


def test_what_is_handed_over_is_one_line_and_comes_back_as_it_was():
    sampled = Sampled(mean(rounds(7)), 33, 0.04, pace.LIKE_OTHERS)
    assert "\n" not in written(sampled)
    assert read(written(sampled)) == sampled


def test_conditions_say_pace_and_priority():
    said = Sampled(PLAN, 33, 0.04, pace.LIKE_OTHERS).conditions()
    assert (said["pace"], said["pace sampled"], said["sampler's priority"]) == (1.0, 33, pace.LIKE_OTHERS)


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.pace"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_program_hands_over_its_means_and_ends_when_its_input_does(program: subprocess.Popen[str]):
    assert program.stdin is not None
    assert program.stdout is not None
    ready = read(program.stdout.readline())
    time.sleep(6 * pace.EVERY)
    program.stdin.close()
    found = read(program.stdout.readline())
    assert program.stdout.read() == ""
    assert program.wait(timeout=30) == 0
    assert found.samples > ready.samples == 1
    assert found.priority in {pace.FIRST, pace.LIKE_OTHERS}
    # A microsecond is less, and a second more, than any machine takes for any of them.
    assert all(1 < each < 1e6 for each in asdict(found.operations).values())


def test_the_program_ends_in_silence_when_nobody_is_left_to_read(program: subprocess.Popen[str]):
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.readline()
    program.stdout.close()
    program.stdin.close()
    assert program.wait(timeout=30) == 0
    assert program.stderr.read() == ""


def test_a_sampler_says_means_of_spans_as_often_as_asked_and_ends_with_its_block():
    cores = frozenset(os.sched_getaffinity(0))
    with pace.beside(cores) as sampler:
        since = time.perf_counter()
        until = time.monotonic() + 30
        while (few := sampler.mean([(since, time.perf_counter())])).samples < 3:
            assert time.monotonic() < until, "it samples nothing"
            time.sleep(pace.EVERY)
        assert sampler.mean().samples > few.samples
        assert sampler.mean([(0.0, 0.0)]).samples == 0
        assert os.sched_getaffinity(0) == cores
    with pytest.raises(RuntimeError, match="ended"):
        sampler.mean()


def test_a_sampler_that_has_ended_is_told():
    with pace.beside(frozenset(os.sched_getaffinity(0))) as sampler:
        sampler._process.kill()
        sampler._process.wait()
        with pytest.raises(RuntimeError, match="sampler"):
            sampler.mean()


def test_a_line_in_pieces_is_one_ask(program: subprocess.Popen[str]):
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdout.readline()
    for piece in ("[[0.0, ", f"{json.dumps(1e12)}]]", "\n"):
        program.stdin.write(piece)
        program.stdin.flush()
        time.sleep(0.05)
    assert read(program.stdout.readline()).samples >= 1
