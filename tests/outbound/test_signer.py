"""The door to the signer: a plan becomes one structured ask, and each way to fail has a name of its own."""

from __future__ import annotations

import datetime as dt

import pytest
import trio

from gateway.domain.issuance import Plan
from gateway.domain.policy import BasicConstraints
from gateway.domain.request import (
    KeyUsage,
    Proof,
    ProofKind,
    Protocol,
    San,
    SanType,
    SubjectAttribute,
    SubjectType,
)
from gateway.outbound.signer import (
    Signer,
    SignerBusy,
    SignerLost,
    SignerRefused,
    SignerUnreachable,
    issue_certificate,
)
from signer.client import Busy, Unreachable, WorkerLost
from signer.contract import messages
from signer.contract.refusal import SignerRefusal
from tests.doubles.issuer import NOW, Issuer, pair, public_key

PLAN = Plan(
    serial=(1 << 126) + 5,
    subject=(SubjectAttribute(SubjectType.COMMON_NAME, "dev1"),),
    sans=(San(SanType.DNS_NAME, "dev1.example"),),
    san_critical=False,
    key=public_key(),
    key_usages=(KeyUsage.DIGITAL_SIGNATURE,),
    extended_key_usages=("1.3.6.1.5.5.7.3.2",),
    basic_constraints=BasicConstraints(),
    not_before=NOW,
    not_after=NOW + dt.timedelta(days=1),
    proof=Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "dev1", b"h" * 32),
    judged_at=NOW,
)
PAIR = pair(Issuer())


class Client:
    """Answers every ask with one outcome, or raises it."""

    reachable = True

    def __init__(self, outcome: messages.Outcome | Exception) -> None:
        self.outcome = outcome
        self.shares: list[str] = []
        self.verbs: list[messages.Verb] = []

    async def ask(self, verb: messages.Verb, *, share: str, deadline: float, told: bool = False) -> messages.Outcome:
        self.shares.append(share)
        self.verbs.append(verb)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def signer(outcome: messages.Outcome | Exception) -> Signer:
    return Signer(Client(outcome))  # type: ignore[arg-type]


def test_a_plan_becomes_one_structured_ask():
    asked = issue_certificate(PLAN, PAIR, b"t" * 16, 10.0)
    assert asked.issuer == PAIR.authority.key
    assert int.from_bytes(asked.serial, "big") == PLAN.serial
    assert asked.serial[0] < 0x80, "positive: the sign bit has room"
    assert asked.subject == [("2.5.4.3", "dev1")]
    assert asked.sans == [messages.GeneralName("dns_name", "dev1.example")]
    assert asked.spki == PLAN.key.spki
    assert (asked.not_before, asked.not_after) == (int(NOW.timestamp()), int(NOW.timestamp()) + 86400)
    assert asked.proof == messages.Proof("est", "est-passphrase", "dev1", b"h" * 32, ["acme", "api", "est", "scep"])
    assert asked.deadline > NOW.timestamp() + 10, "the ticket outlives the ask"


async def test_each_verb_gives_what_it_is_for():
    assert await signer(messages.Certificate(b"c")).issue(PLAN, PAIR, ticket=b"t" * 16) == b"c"
    assert await signer(messages.Unwrapped(b"k")).unwrap("ra", b"w", "pkcs1v15", 16, share="a") == b"k"
    assert await signer(messages.Signature(b"s")).sign_attributes("ra", b"1", "sha256", share="a") == b"s"
    made = messages.GeneratedKey(b"p", b"k", b"s")
    assert await signer(made).generate_key("RSA_2048", share="a") == made
    crl = signer(messages.RevocationList(b"l")).sign_crl("ca", number=1, this_update=0, next_update=1, entries=b"")
    assert await crl == b"l"


async def test_a_delta_is_asked_for_by_its_base_and_a_list_may_say_where_its_delta_is():
    """RFC 5280, 5.2.4 and 5.2.6."""
    client = Client(messages.RevocationList(b"l"))
    ours, times = Signer(client), {"this_update": 0, "next_update": 1, "entries": b""}  # type: ignore[arg-type]
    await ours.sign_crl("ca", number=7, base_number=4, names=["http://a/0.crl"], **times)
    await ours.sign_crl("ca", number=8, freshest=["http://a/delta.crl"], **times)
    assert client.verbs == [
        messages.SignCrl("ca", 7, 0, 1, [], ["http://a/0.crl"], base_number=4),
        messages.SignCrl("ca", 8, 0, 1, [], freshest=["http://a/delta.crl"]),
    ]


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        (Busy(3), SignerBusy),
        (WorkerLost(), SignerLost),
        (Unreachable(), SignerUnreachable),
        (messages.No(SignerRefusal.CEILING, "too long"), SignerRefused),
        (messages.Unwrapped(b"k"), SignerRefused),
    ],
)
async def test_each_way_to_fail_has_a_name(outcome, failure):
    with pytest.raises(failure):
        await signer(outcome).issue(PLAN, PAIR, ticket=b"t" * 16)


async def test_an_answer_to_another_verb_is_never_taken_for_ours():
    for ask in (
        signer(messages.Certificate(b"c")).unwrap("ra", b"w", "pkcs1v15", 16, share="a"),
        signer(messages.Certificate(b"c")).sign_attributes("ra", b"1", "sha256", share="a"),
        signer(messages.Certificate(b"c")).generate_key("RSA_2048", share="a"),
        signer(messages.Certificate(b"c")).sign_crl("ca", number=1, this_update=0, next_update=1, entries=b""),
    ):
        with pytest.raises(SignerRefused):
            await ask


@pytest.mark.parametrize("reason", list(SignerRefusal))
def test_only_what_the_request_itself_is_at_fault_for_is_final(reason: SignerRefusal):
    final = reason in {SignerRefusal.CEILING, SignerRefusal.LINT}
    assert SignerRefused(reason, "x").about_the_request is final


async def test_a_certificate_is_signed_on_its_applications_share():
    client = Client(messages.Certificate(b"c"))
    await Signer(client).issue(PLAN, PAIR, ticket=b"t" * 16)  # type: ignore[arg-type]
    assert client.shares == [PAIR.application.id]


async def test_a_token_that_is_left_alone_makes_the_gateway_unready_until_it_may_be_asked_again(autojump_clock):
    """What a load balancer reads from /readyz: no asks for a while, then one that finds out."""
    client = Client(messages.No(SignerRefusal.TOKEN, "the token hsm is left alone", 4))
    door = Signer(client)  # type: ignore[arg-type]
    assert door.reachable
    with pytest.raises(SignerRefused) as caught:
        await door.issue(PLAN, PAIR, ticket=b"t" * 16)
    assert caught.value.retry_after == 4
    assert not door.reachable
    await trio.sleep(3.9)
    assert not door.reachable
    await trio.sleep(0.2)
    assert door.reachable


async def test_another_key_that_serves_makes_it_ready_again():
    client = Client(messages.No(SignerRefusal.TOKEN, "the token hsm is left alone", 4))
    door = Signer(client)  # type: ignore[arg-type]
    with pytest.raises(SignerRefused):
        await door.issue(PLAN, PAIR, ticket=b"t" * 16)
    client.outcome = messages.GeneratedKey(b"", b"", b"")
    await door.generate_key("ED25519", share="a")
    assert not door.reachable  # that took no key of the store's
    client.outcome = messages.Certificate(b"der")
    await door.issue(PLAN, PAIR, ticket=b"t" * 16)
    assert door.reachable


async def test_a_refusal_that_knows_no_time_changes_nothing():
    door = Signer(Client(messages.No(SignerRefusal.CEILING, "too long")))  # type: ignore[arg-type]
    with pytest.raises(SignerRefused):
        await door.issue(PLAN, PAIR, ticket=b"t" * 16)
    assert door.reachable
