"""Once: a ticket is good for one signature until its deadline, and a serial is signed once."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused
from signer.issuance.ticket import GENERATION, HORIZON, Tickets, claim_of
from tests.signer.kit import NOW, good_ask, issue, issuer, refuses


def spend(tickets: Tickets, ticket: bytes, deadline: int, *, issuer: str, serial: int, now: int) -> None:
    tickets.spend(claim_of(issuer, serial.to_bytes(20, "big"), ticket, deadline), now=now)


def test_a_ticket_is_good_for_one_signature():
    tickets, ask = Tickets(), good_ask()
    issue(issuer(), ask, tickets, now=NOW)
    refuses(SignerRefusal.TICKET, ask, tickets=tickets)
    refuses(SignerRefusal.TICKET, good_ask(ticket=ask.ticket), tickets=tickets)


def test_a_serial_is_signed_once_per_issuer():
    tickets, ask = Tickets(), good_ask()
    issue(issuer(), ask, tickets, now=NOW)
    refuses(SignerRefusal.SERIAL, good_ask(serial=ask.serial), tickets=tickets)
    refuses(SignerRefusal.SERIAL, good_ask(serial=b"\0" + ask.serial), tickets=tickets)
    spend(tickets, os.urandom(16), NOW, issuer="another", serial=int.from_bytes(ask.serial, "big"), now=NOW)


def test_a_refused_ask_spends_nothing():
    tickets, ask = Tickets(), good_ask(subject=[("2.5.4.3", "")])
    refuses(SignerRefusal.LINT, ask, tickets=tickets)
    issue(issuer(), good_ask(ticket=ask.ticket, serial=ask.serial), tickets, now=NOW)


@pytest.mark.parametrize(
    "changes",
    [{"ticket": b""}, {"ticket": bytes(15)}, {"ticket": bytes(65)}, {"deadline": NOW - 1}, {"deadline": NOW + 100_000}],
)
def test_a_ticket_that_is_none_is_refused(changes):
    refuses(SignerRefusal.TICKET, good_ask(**changes))


def test_tickets_are_forgotten_after_their_deadline_and_the_clock_does_not_bring_them_back():
    tickets = Tickets()
    for n in range(1000):
        spend(tickets, n.to_bytes(16, "big"), NOW + n % 7, issuer="i", serial=n + 1, now=NOW)
    assert len(tickets) == 1000
    spend(tickets, b"t" * 16, NOW + 20, issuer="i", serial=5000, now=NOW + 10)
    assert len(tickets) == 1
    with pytest.raises(Refused) as caught:
        spend(tickets, bytes(16), NOW, issuer="i", serial=6000, now=NOW)  # the clock was set back
    assert caught.value.reason is SignerRefusal.TICKET


def test_a_clock_that_ran_ahead_and_was_set_right_keeps_no_ticket_out():
    """A machine starts before its clock is right, by eight hours: what was signed then stays signed."""
    tickets, ahead = Tickets(), NOW + 8 * 3600
    spend(tickets, b"a" * 16, ahead + 70, issuer="i", serial=1, now=ahead)
    spend(tickets, b"b" * 16, NOW + 70, issuer="i", serial=2, now=NOW)
    for ticket, serial, reason in ((b"b" * 16, 3, SignerRefusal.TICKET), (b"c" * 16, 1, SignerRefusal.SERIAL)):
        with pytest.raises(Refused) as caught:
            spend(tickets, ticket, NOW + 70, issuer="i", serial=serial, now=NOW)
        assert caught.value.reason is reason


def test_serials_are_kept_for_two_generations_and_memory_stays_bounded():
    tickets = Tickets(generation=10)
    for serial in range(1, 36):
        spend(tickets, os.urandom(16), NOW, issuer="i", serial=serial, now=NOW)
    for serial in range(21, 36):
        with pytest.raises(Refused):
            spend(tickets, os.urandom(16), NOW, issuer="i", serial=serial, now=NOW)
    spend(tickets, os.urandom(16), NOW, issuer="i", serial=1, now=NOW)
    assert GENERATION >= 1000
    assert HORIZON >= 120


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_no_ticket_and_no_serial_is_ever_spent_twice(spends):
    """Whatever the order of tickets, serials, deadlines and clocks: within its deadline a ticket works once."""
    tickets, spent, signed, latest = Tickets(), {}, set(), 0
    for ticket, serial, deadline, now in spends:
        latest = max(latest, now)
        try:
            spend(tickets, bytes((ticket,)) * 16, deadline, issuer="i", serial=serial, now=now)
        except Refused:
            continue
        assert spent.get(ticket, -1) < latest <= deadline
        assert serial not in signed
        spent[ticket] = deadline
        signed.add(serial)
