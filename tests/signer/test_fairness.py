"""Who waits for whom: shares and classes of asks before workers that take their time, on a clock of the test's own.

The workers are played here and sleep for as long as their asks would take, so waits are exact and cost no time.
"""

import random
from collections import Counter
from contextlib import asynccontextmanager
from statistics import quantiles

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from signer.client import Busy, SignerClient
from signer.client.pace import kind
from signer.client.waiting import Entry, Waiting
from signer.contract.framing import MAX_BATCH, Frames, decode_batch, encode_answers
from signer.contract.messages import Answer, Answers, SignCrl, SignOcsp, UnwrapKey, Unwrapped

SERVICE = 0.0005  # seconds that each ask takes a worker
FRAME = 0.0001  # seconds that a frame takes beside its asks


QUICK = UnwrapKey("ra", b"", "pkcs1v15", 16)


class PacedWorker:
    """Answers frames at a pace, and remembers what it was given."""

    def __init__(self, path: str, costs: dict[type, float]) -> None:
        self.path = path
        self.costs = costs
        self.frames: list[list] = []

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED) -> None:
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(self.path)
        listener.listen()
        task_status.started()
        with listener:
            connection, _ = await listener.accept()
            with connection:
                await self._answer(connection)

    async def _answer(self, connection) -> None:
        stream = trio.SocketStream(connection)
        frames = Frames(MAX_BATCH)
        async for received in stream:
            for payload in frames.feed(received):
                asks = decode_batch(payload).asks
                took = sum(self.costs.get(type(each.verb), SERVICE) for each in asks)
                if asks:
                    self.frames.append([each.verb for each in asks])
                    await trio.sleep(took + FRAME)
                answers = Answers([Answer(each.id, Unwrapped(b"")) for each in asks], round(took * 1e6))
                await stream.send_all(bytes(encode_answers(answers)))


@asynccontextmanager
async def pool(tmp_path, workers: int = 2, queue: int = 4096, costs=None):
    paced = [PacedWorker(str(tmp_path / f"{n}.sock"), costs or {}) for n in range(workers)]
    client = SignerClient([each.path for each in paced], queue=queue)
    async with trio.open_nursery() as nursery:
        for each in paced:
            await nursery.start(each.serve)
        await nursery.start(client.run)
        await wait_all_tasks_blocked()
        yield client, paced
        nursery.cancel_scope.cancel()


class Crowd:
    """Shares that ask at rates of their own (Poisson), whoever waits; what came of it is kept by share."""

    def __init__(self, client: SignerClient, seed: int = 1) -> None:
        self.client = client
        self.seed = seed
        self.waits: dict[str, list[float]] = {}
        self.busy: dict[str, int] = {}

    async def ask(self, share: str, rate: float, seconds: float, verb=QUICK) -> None:
        dice = random.Random(f"{self.seed} {share}")
        ending = trio.current_time() + seconds
        self.waits[share], self.busy[share] = [], 0
        async with trio.open_nursery() as nursery:
            while trio.current_time() < ending:
                await trio.sleep(dice.expovariate(rate))
                nursery.start_soon(self._one, share, verb)

    async def _one(self, share: str, verb) -> None:
        began = trio.current_time()
        try:
            await self.client.ask(verb, share=share, deadline=began + 10)
        except Busy:
            self.busy[share] += 1
        else:
            self.waits[share].append(trio.current_time() - began)

    def percentile(self, shares, part: int) -> float:
        return quantiles([wait for each in shares for wait in self.waits[each]], n=100)[part - 1]


NINE = tuple(f"small-{n}" for n in range(9))


# What two workers can do while several shares ask: frames of a millisecond have two asks in them.
CAPACITY = 2 * 2 / (2 * SERVICE + FRAME)


async def measured(folder, *, storm: bool, seed: int, seconds: float = 2.0) -> Crowd:
    """Nine shares offer a tenth of the pool each, and beside them perhaps a tenth one offers ten times the pool."""
    folder.mkdir()
    async with pool(folder) as (client, _):
        crowd = Crowd(client, seed)
        await crowd.ask("learnt", 100, 0.1)  # now the client knows what an ask takes
        async with trio.open_nursery() as nursery:
            for share in NINE:
                nursery.start_soon(crowd.ask, share, CAPACITY / 10, seconds)
            if storm:
                nursery.start_soon(crowd.ask, "storm", CAPACITY * 10, seconds)
    return crowd


@pytest.mark.parametrize("seed", [1, 2])
async def test_nine_hardly_notice_a_tenth_that_offers_ten_times_what_the_pool_can_do(tmp_path, autojump_clock, seed):
    """Also where the nine offer a whole tenth each, and fill the pool to nine tenths by themselves."""
    calm = await measured(tmp_path / "calm", storm=False, seed=seed)
    stormy = await measured(tmp_path / "stormy", storm=True, seed=seed)
    assert all(stormy.busy[each] == 0 for each in NINE)
    assert sum(len(stormy.waits[each]) for each in NINE) == sum(len(calm.waits[each]) for each in NINE)
    for part in (50, 90, 99):
        assert stormy.percentile(NINE, part) < 2 * calm.percentile(NINE, part)
    assert len(stormy.waits["storm"]) > 0.1 * len(stormy.waits[NINE[0]])  # and it is not starved either
    assert stormy.busy["storm"] > 0


@pytest.mark.parametrize(("storms", "few"), [(1, 1), (1, 9), (4, 1), (9, 1), (5, 5), (40, 1)])
@pytest.mark.parametrize("kept", [10, 30, 100])
def test_whoever_asks_again_at_once_gets_a_few_fair_parts_and_leaves_every_storm_its_own(storms, few, kept):
    """Few asks at a time, but always as many, are no right to the whole pool; nor is a lane short beside a storm's."""
    waiting, taken = Waiting(10**6), Counter()

    def ask(share: str) -> None:
        waiting.put(Entry(QUICK, kind(QUICK), 0.001, share=share, deadline=10.0, task=None))

    for share in [f"storm-{n}" for n in range(storms)] * 1000 + [f"few-{n}" for n in range(few)] * kept:
        ask(share)
    for turn in range(3000):
        for entry in waiting.take(2, apart=True):
            if turn >= 1000:  # a storm begins as everybody else does
                taken[entry.share] += 1
            if entry.share.startswith("few"):
                ask(entry.share)
    fair = taken.total() / (storms + few)
    assert all(taken[f"storm-{n}"] > fair / 10 for n in range(storms))
    assert all(taken[f"few-{n}"] < fair * 5 for n in range(few))
    assert all(taken[f"few-{n}"] > fair * 0.9 for n in range(few))


def waiting_for(**shares: int) -> Waiting:
    """Asks of a millisecond each, so many of each share, put in by turns."""
    waiting = Waiting(10**6)
    for turn in range(max(shares.values())):
        for share, count in shares.items():
            if turn < count:
                waiting.put(Entry(QUICK, kind(QUICK), 0.001, share=share, deadline=10.0, task=None))
    return waiting


@pytest.mark.parametrize(("each", "taken"), [(1, 1), (2, 2), (4, 4), (8, 8), (30, 8)])
def test_a_frame_grows_with_the_fresh_asks_that_wait_and_no_further_than_its_bound(each, taken):
    """Half of what waits, at least the millisecond that was asked for, at most eight: between frames a worker idles."""
    assert len(waiting_for(one=each, other=each).take(64, 0.001, apart=True)) == taken


def test_a_storm_s_frames_do_not_grow():
    """They are what the next fresh ask waits for."""
    waiting = waiting_for(storm=500)
    while len(fresh := waiting.take(64, 0.001, apart=True)) > 1:  # a storm begins as everybody else does
        assert len(fresh) <= 8
    assert [len(waiting.take(64, 0.001, apart=True)) for _ in range(5)] == [1] * 5


@pytest.mark.parametrize(("few", "first"), [(100, True), (350, False)])
def test_a_lane_less_than_half_as_long_as_the_storm_s_catches_up(few, first):
    """It fell behind by chance: in turns with the storm it would stay as long as it has become."""
    waiting = waiting_for(storm=400, few=few)
    for _ in range(12):  # the credit of both
        waiting.take(6, 1.0)
    shares = Counter(each.share for each in waiting.take(40, 1.0))
    assert (shares["few"] > 22) == first


@pytest.mark.parametrize(("one", "other"), [(100, 100), (100, 190), (100, 210), (100, 400), (40, 1000)])
def test_of_two_that_both_ask_for_too_much_the_one_that_waits_for_less_has_little_more(one, other):
    """Neither is a storm beside the other: both ask again as soon as an answer comes."""
    waiting, taken = waiting_for(one=one, other=other), Counter()
    for turn in range(4000):
        for entry in waiting.take(2, apart=True):
            if turn >= 1000:
                taken[entry.share] += 1
            waiting.put(Entry(QUICK, kind(QUICK), 0.001, share=entry.share, deadline=10.0, task=None))
    fair = taken.total() / 2
    assert fair * 0.9 < taken["one"] < fair * 1.3
    assert taken["other"] > fair * 0.7


async def test_an_ask_that_would_wait_beyond_its_use_is_refused_at_once(tmp_path, autojump_clock):
    async with pool(tmp_path, workers=1, costs={UnwrapKey: 0.1}) as (client, _), trio.open_nursery() as nursery:
        crowd = Crowd(client)
        await crowd.ask("learnt", 20, 0.5)  # now the client knows what an ask takes
        nursery.start_soon(crowd.ask, "storm", 300, 3)
        await trio.sleep(2)
        assert crowd.busy["storm"] > 400
        with pytest.raises(Busy) as busy:
            client.require_room("storm", seconds=10)
        assert 4 <= busy.value.retry_after <= 6  # half of the ten seconds is waiting already
        client.require_room("small", seconds=10)
        began = trio.current_time()
        await client.ask(QUICK, share="small", deadline=began + 10)
        assert trio.current_time() - began < 1
    assert max(crowd.waits["storm"]) < 8  # nobody who was let in waited in vain


async def test_lists_and_keys_leave_issuance_its_worker(tmp_path, autojump_clock):
    """A worker that signs lists for a second each does not keep the other from certificates, nor they from it."""
    lists = SignCrl("issuing", 1, 0, 1, [])
    async with pool(tmp_path, costs={SignCrl: 1.0}) as (client, workers), trio.open_nursery() as nursery:
        crowd = Crowd(client)
        nursery.start_soon(crowd.ask, "issuing", 0.8, 6.0, lists)
        nursery.start_soon(crowd.ask, "app", 1 / SERVICE / 4, 3.0)
    assert crowd.busy == {"issuing": 0, "app": 0}
    assert crowd.percentile(["app"], 99) < 0.02
    assert sum(frame == [lists] for each in workers for frame in each.frames) >= 3


async def test_neither_status_nor_issuance_starves_the_other(tmp_path, autojump_clock):
    """D19: each class has its half of every frame, whatever the other offers, and the rest where that is idle."""
    status = SignOcsp("issuing", 0, 0, 1, [])
    for flood, share, trickle in ((status, "ocsp:issuing", QUICK), (QUICK, "app", status)):
        folder = tmp_path / share
        folder.mkdir()
        async with pool(folder, queue=256) as (client, _), trio.open_nursery() as nursery:
            crowd = Crowd(client)
            nursery.start_soon(crowd.ask, share, 6 / SERVICE, 0.5, flood)
            nursery.start_soon(crowd.ask, "other", 0.6 / SERVICE, 0.5, trickle)
        assert crowd.busy["other"] == 0
        assert crowd.percentile(["other"], 99) < 0.02
        assert crowd.busy[share] > 0
        assert len(crowd.waits[share]) > len(crowd.waits["other"])
