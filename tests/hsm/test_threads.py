"""Why a worker is one process with one thread: what python-pkcs11 does when two threads have a session each.

It initialises a module without locking and gives up the interpreter's lock in a call. Whether two threads then crash is
luck; so that is told, not asserted. What the design rests on is asserted: one thread, and two processes, finish.
"""

import os
import signal
import subprocess
import sys

import pytest

from tests.hsm.kit import MODULE, PIN, ROOT

SIGNATURES = 2000

CHILD = """
import sys, threading, time
import pkcs11
module, pin, threads, signatures = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
token = pkcs11.lib(module).get_token(token_label="hsm")
sessions = [token.open(user_pin=pin)] + [token.open() for _ in range(threads - 1)]
print("open", flush=True)
sys.stdin.readline()
def sign(session):
    key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="key")
    for _ in range(signatures):
        assert len(key.sign(bytes(32), mechanism=pkcs11.Mechanism.ECDSA)) == 64
began = time.perf_counter()
running = [threading.Thread(target=sign, args=(each,)) for each in sessions]
for each in running: each.start()
for each in running: each.join()
print(round(threads * signatures / (time.perf_counter() - began)))
"""


def started(threads: int) -> "subprocess.Popen[str]":
    """A process whose sessions are open, waiting for a line to sign. They open in turn, as workers do (`pin.Logins`):
    SoftHSM writes its token's file at a login, and who looks for the token meanwhile may find none.
    """
    command = [sys.executable, "-c", CHILD, MODULE, PIN, str(threads), str(SIGNATURES)]
    pipe = subprocess.PIPE
    begun = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
    assert begun.stdout is not None
    if begun.stdout.readline() != "open\n":
        pytest.fail(begun.communicate()[1])
    return begun


def go(*begun: "subprocess.Popen[str]") -> None:
    for each in begun:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()


@pytest.fixture
def key(store):
    from tests.hsm.kit import place

    return store.tokens.generate(place("key"), "EC_prime256v1")


def test_one_thread_and_two_processes_finish_and_what_two_threads_do_is_told(key, capsys):
    one = started(1)
    go(one)
    alone, said = one.communicate(timeout=240)
    assert one.returncode == 0, said

    pair = [started(1), started(1)]
    go(*pair)
    rates = []
    for each in pair:
        rate, said = each.communicate(timeout=240)
        assert each.returncode == 0, said
        rates.append(int(rate))

    two = started(2)
    go(two)
    try:
        rate, said = two.communicate(timeout=60)
    except subprocess.TimeoutExpired:  # a deadlock is an outcome too
        two.kill()
        rate, said = two.communicate()
    if two.returncode == 0 and "Error" not in said:
        outcome = f"finished, {rate.strip()} signatures/s"
    elif two.returncode < 0:
        outcome = f"ended by {signal.Signals(-two.returncode).name}"
    else:
        outcome = (said.strip().splitlines() or [f"ended with status {two.returncode}"])[-1]
    with capsys.disabled():
        print(  # noqa: T201 - the outcome is what this test is for
            f"\none thread: {alone.strip()} signatures/s; two processes: {sum(rates)}; two threads: {outcome}"
            f" ({os.cpu_count()} cores)"
        )
