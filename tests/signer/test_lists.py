"""A long list beside everything else: one worker makes it in slices, and issues between them (D19)."""

import itertools
import os
import select
import socket
import time

from cryptography import x509

from signer.contract.entries import ENTRY
from signer.contract.framing import Frames, decode_answers, encode_batch
from signer.contract.messages import VERSION, Ask, Batch, Certificate, No, Outcome, RevocationList, SignCrl
from signer.contract.refusal import SignerRefusal
from tests.signer.kit import running_signer
from tests.signer.test_processes import connected, live_ask

MANY = 60_000
_numbers = itertools.count(1)


def long_list(many: int = MANY, issuer: str = "issuing") -> SignCrl:
    now = int(time.time())
    entries = b"".join(ENTRY.pack((n + 1).to_bytes(20, "big"), now - n, n % 2) for n in range(many))
    return SignCrl(issuer, 1, now, now + 86400, [], packed=entries)


def ask(connection: socket.socket, verb) -> None:
    connection.sendall(encode_batch(Batch(VERSION, [Ask(next(_numbers), verb)])))


def answer(connection: socket.socket) -> Outcome:
    frames = Frames(2**25)
    while not (payloads := frames.feed(connection.recv(1 << 20))):
        pass
    return decode_answers(payloads[0]).answers[0].outcome


def arrived(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def fresh():
    """An ask of its own: claims on tickets and serials outlive a worker."""
    return live_ask(serial=b"\x40" + os.urandom(15), ticket=os.urandom(16))


def test_one_worker_issues_while_it_makes_a_long_list(keys_folder):
    with (
        running_signer(keys_folder) as signer,
        connected(signer.sockets[0]) as one,
        connected(signer.sockets[0]) as two,
    ):
        ask(one, long_list())
        issued = 0
        while not arrived(one):
            ask(two, fresh())
            assert isinstance(answer(two), Certificate)
            issued += 1
        made = answer(one)
        assert isinstance(made, RevocationList)
        assert len(x509.load_der_x509_crl(made.der)) == MANY
    # A slice is 500 entries, and every certificate was asked for when the one before had come: about one a slice, where
    # this process gets as much of the machine as the worker does. From a worker that is held up it would be one.
    assert issued >= 4


def test_a_reader_that_is_slow_holds_nobody_up(keys_folder):
    """The list waits for its reader; the worker does not."""
    with (
        running_signer(keys_folder) as signer,
        connected(signer.sockets[0]) as one,
        connected(signer.sockets[0]) as two,
    ):
        ask(one, long_list())
        while not arrived(one):
            time.sleep(0.01)
        for _ in range(10):
            ask(two, fresh())
            assert isinstance(answer(two), Certificate)
        assert isinstance(answer(one), RevocationList)
        ask(one, fresh())
        assert isinstance(answer(one), Certificate)


def test_two_lists_at_once_and_one_reader_that_goes_away(keys_folder):
    with running_signer(keys_folder) as signer, connected(signer.sockets[0]) as one:
        with connected(signer.sockets[0]) as gone:
            ask(gone, long_list())
            ask(one, long_list(5_000))
        assert isinstance(answer(one), RevocationList)


def test_a_long_list_of_nobody_s_is_refused_like_any_other(keys_folder):
    with running_signer(keys_folder) as signer, connected(signer.sockets[0]) as one:
        ask(one, long_list(2_000, "nobody"))
        refused = answer(one)
        assert isinstance(refused, No)
        assert refused.reason is SignerRefusal.UNKNOWN_KEY
        ask(one, fresh())
        assert isinstance(answer(one), Certificate)


def test_whoever_sends_on_while_a_list_is_made_loses_the_connection(keys_folder):
    """Its answer would stand in the middle of the list's."""
    with running_signer(keys_folder) as signer, connected(signer.sockets[0]) as one:
        ask(one, long_list())
        while not arrived(one):  # it is longer than what a socket holds: nobody reads it, so it is under way until then
            time.sleep(0.01)
        try:
            ask(one, fresh())
            while one.recv(1 << 20):
                pass
        except ConnectionError:
            pass
        with connected(signer.sockets[0]) as two:
            ask(two, fresh())
            assert isinstance(answer(two), Certificate)
