"""The client, against workers that the test plays itself: what is batched, who waits, who is told what."""

import os
import socket
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from signer.client import Busy, SignerClient, Unreachable, WorkerLost
from signer.client.client import LEAST, MOST
from signer.contract.framing import MAX_BATCH, Frames, decode_batch, encode_answers
from signer.contract.messages import (
    Answer,
    Answers,
    Ask,
    GenerateKey,
    No,
    SignAttributes,
    SignCrl,
    TokenFigures,
    UnwrapKey,
    Unwrapped,
    WorkerFigures,
)
from signer.contract.refusal import SignerRefusal

FAR = 1000.0


class PlayedWorker:
    """A worker's end of the wire: the test takes frames from it and answers them when it likes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.listener = trio.socket.socket(trio.socket.AF_UNIX)
        self.connection = None
        self.pace = 10  # microseconds that it says an ask takes it

    async def listen(self) -> None:
        await self.listener.bind(self.path)
        self.listener.listen()

    async def accept(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection, _ = await self.listener.accept()
        self.frames = Frames(MAX_BATCH)
        self.ready = []
        assert await self.take() == []
        await self.answer([])

    async def take(self) -> list[Ask]:
        while not self.ready:
            received = await self.connection.recv(65536)
            assert received, "the client closed the connection"
            self.ready += self.frames.feed(received)
        return decode_batch(self.ready.pop(0)).asks

    async def answer(self, asks: list[Ask]) -> None:
        answers = [Answer(each.id, Unwrapped(b"%d" % each.verb.length)) for each in asks]
        await self.send(Answers(answers, self.pace * len(asks)))

    async def send(self, answers: Answers) -> None:
        frame = bytes(encode_answers(answers))
        while frame:
            frame = frame[await self.connection.send(frame) :]

    def die(self) -> None:
        self.connection.close()


def ask_of(number: int) -> UnwrapKey:
    return UnwrapKey("ra", b"", "pkcs1v15", number)


@asynccontextmanager
async def playing(tmp_path, workers: int = 1, queue: int = 4096):
    played = [PlayedWorker(str(tmp_path / f"{n}.sock")) for n in range(workers)]
    for each in played:
        await each.listen()
    client = SignerClient([each.path for each in played], queue=queue)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        for each in played:
            with trio.fail_after(60):
                await each.accept()
        await wait_all_tasks_blocked()
        yield client, played
        nursery.cancel_scope.cancel()
    for each in played:
        each.listener.close()
        if each.connection is not None:
            each.connection.close()


class Asker:
    """Asks in the background, and keeps what came of it."""

    def __init__(self, client: SignerClient, nursery: trio.Nursery) -> None:
        self.client = client
        self.nursery = nursery
        self.came: dict[int, object] = {}

    def ask(self, number: int, share: str = "app", verb=None, deadline: float = FAR) -> None:
        self.nursery.start_soon(self._ask, number, share, verb or ask_of(number), trio.current_time() + deadline)

    async def _ask(self, number, share, verb, deadline) -> None:
        try:
            self.came[number] = await self.client.ask(verb, share=share, deadline=deadline)
        except (Busy, Unreachable, WorkerLost) as failure:
            self.came[number] = failure


def numbers(asks: list[Ask]) -> list[int]:
    return [each.verb.length for each in asks]


async def test_an_ask_is_answered(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(7)
        await worker.answer(await worker.take())
        await wait_all_tasks_blocked()
        assert asker.came == {7: Unwrapped(b"7")}
        assert client.reachable
        numbers_of = client.statistics()
        assert (numbers_of.asks, numbers_of.frames, numbers_of.waiting, numbers_of.in_flight) == (1, 1, 0, 0)


async def test_asks_of_one_moment_share_a_frame_and_what_comes_meanwhile_shares_the_next(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(5):
            asker.ask(number)
        first = await worker.take()
        assert sorted(numbers(first)) == [0, 1, 2, 3, 4]
        for number in range(5, 30):
            asker.ask(number)
        await wait_all_tasks_blocked()
        assert client.statistics().waiting == 25
        await worker.answer(first)
        second = await worker.take()
        assert sorted(numbers(second)) == list(range(5, 30))
        await worker.answer(second)
        await wait_all_tasks_blocked()
        assert sorted(asker.came) == list(range(30))
        assert client.statistics().largest == 25


async def test_a_frame_carries_a_bounded_number(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(MOST + 10):
            asker.ask(number)
        first = await worker.take()
        assert len(first) == MOST
        await worker.answer(first)
        assert len(await worker.take()) == 10
        nursery.cancel_scope.cancel()


async def test_a_storm_of_one_share_does_not_starve_another(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        busy = await worker.take()
        for number in range(1, 301):
            asker.ask(number, share="storm")
        await wait_all_tasks_blocked()
        asker.ask(1000, share="small")
        asker.ask(1001, share="smaller")
        await wait_all_tasks_blocked()
        await worker.answer(busy)
        following = numbers(await worker.take())
        assert {1000, 1001} <= set(following[:6])
        nursery.cancel_scope.cancel()


async def test_a_share_s_own_asks_keep_their_order(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        busy = await worker.take()
        for number in range(1, 20):
            asker.ask(number)
            await wait_all_tasks_blocked()
        await worker.answer(busy)
        assert numbers(await worker.take()) == list(range(1, 20))
        nursery.cancel_scope.cancel()


async def test_a_full_queue_says_busy_to_the_share_that_filled_it(tmp_path):
    async with playing(tmp_path, queue=10) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        busy = await worker.take()
        for number in range(1, 11):
            asker.ask(number, share="storm")
            await wait_all_tasks_blocked()
        asker.ask(11, share="storm")
        await wait_all_tasks_blocked()
        assert isinstance(asker.came[11], Busy)
        assert 1 <= asker.came[11].retry_after <= 60
        asker.ask(12, share="small")
        await wait_all_tasks_blocked()
        assert isinstance(asker.came[10], Busy)  # the newest of the storm gave way
        await worker.answer(busy)
        carried = []
        while len(carried) < 10:
            asks = await worker.take()
            carried += numbers(asks)
            await worker.answer(asks)
        assert sorted(carried) == [*range(1, 10), 12]
        nursery.cancel_scope.cancel()


async def test_an_ask_that_is_cancelled_before_it_is_sent_is_never_sent(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        busy = await worker.take()
        async with trio.open_nursery() as short:
            Asker(client, short).ask(1)
            Asker(client, short).ask(2, share="another")
            await wait_all_tasks_blocked()
            short.cancel_scope.cancel()
        assert client.statistics().waiting == 0
        asker.ask(3)
        await wait_all_tasks_blocked()
        await worker.answer(busy)
        assert numbers(await worker.take()) == [3]
        nursery.cancel_scope.cancel()


async def test_an_answer_to_a_cancelled_ask_is_dropped(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        async with trio.open_nursery() as short:
            Asker(client, short).ask(1)
            taken = await worker.take()
            short.cancel_scope.cancel()
        await worker.answer(taken)
        asker = Asker(client, nursery)
        asker.ask(2)
        await worker.answer(await worker.take())
        await wait_all_tasks_blocked()
        assert asker.came == {2: Unwrapped(b"2")}


async def test_an_ask_whose_asker_must_be_told_is_not_cancelled_once_a_worker_has_it(tmp_path):
    """What may be signed is told: its asker writes it down before it goes."""
    async with playing(tmp_path) as (client, [worker]):
        came = []

        async def asking() -> None:
            came.append(await client.ask(ask_of(1), share="app", deadline=trio.current_time() + FAR, told=True))
            await trio.lowlevel.checkpoint()
            came.append("not cancelled")

        async with trio.open_nursery() as short:
            short.start_soon(asking)
            taken = await worker.take()
            short.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert came == []
                await worker.answer(taken)
        assert came == [Unwrapped(b"1")]


async def test_a_deadline_tells_busy_from_lost(tmp_path, autojump_clock):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0, deadline=5)
        await worker.take()
        asker.ask(1, deadline=5)
        await trio.sleep(6)
        assert isinstance(asker.came[0], WorkerLost)  # a worker has it
        assert isinstance(asker.came[1], Busy)  # nobody has it
        assert client.statistics().waiting == 0


async def test_nobody_there_is_told_at_the_deadline(tmp_path, autojump_clock):
    client = SignerClient([str(tmp_path / "none.sock")])
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        began = trio.current_time()
        with pytest.raises(Unreachable):
            await client.ask(ask_of(1), share="app", deadline=began + 3)
        assert 3 <= trio.current_time() - began < 3.5
        assert not client.reachable
        nursery.cancel_scope.cancel()


async def test_an_idle_client_does_not_wake_up(tmp_path, autojump_clock):
    async with playing(tmp_path) as (client, _), trio.open_nursery():
        await trio.sleep(1)
        instrument = Counting()
        trio.lowlevel.add_instrument(instrument)
        await trio.sleep(100)
        trio.lowlevel.remove_instrument(instrument)
        assert instrument.steps < 5
        assert client.reachable


class Counting(trio.abc.Instrument):
    steps = 0

    def before_task_step(self, task):
        self.steps += 1


async def test_a_lost_worker_s_asks_are_unknown_and_the_client_connects_again(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        await worker.take()
        asker.ask(1)
        await wait_all_tasks_blocked()
        worker.die()
        with trio.fail_after(60):
            await worker.accept()
            await worker.answer(await worker.take())
        await wait_all_tasks_blocked()
        assert isinstance(asker.came[0], WorkerLost)
        assert asker.came[1] == Unwrapped(b"1")


@pytest.mark.parametrize(
    "wrong",
    [
        Answers([Answer(999, Unwrapped(b""))]),
        Answers([]),
        b"\0\0\0\3abc",
        b"\xff\xff\xff\xff",
    ],
)
async def test_a_worker_that_breaks_the_contract_is_left(tmp_path, wrong):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        await worker.take()
        if isinstance(wrong, bytes):
            await worker.connection.send(wrong)
        else:
            await worker.send(wrong)
        with trio.fail_after(60):
            await worker.accept()
        assert isinstance(asker.came[0], WorkerLost)


async def test_a_storm_is_spread_over_the_free_workers(tmp_path):
    async with playing(tmp_path, workers=2) as (client, [one, two]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(4 * LEAST):
            asker.ask(number)
        taken = [len(await one.take()), len(await two.take())]
        assert sum(taken) == 4 * LEAST
        assert min(taken) >= LEAST
        nursery.cancel_scope.cancel()


async def test_a_few_asks_stay_together(tmp_path):
    async with playing(tmp_path, workers=2) as (client, workers), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(LEAST):
            asker.ask(number)
        await wait_all_tasks_blocked()
        assert client.statistics().frames == 1
        assert len(workers) == 2
        nursery.cancel_scope.cancel()


async def test_slow_asks_travel_alone_and_leave_one_worker_free(tmp_path):
    async with playing(tmp_path, workers=2) as (client, workers), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(3):
            asker.ask(number, verb=GenerateKey("RSA_4096"))
        await wait_all_tasks_blocked()
        assert client.statistics().in_flight == 1
        asker.ask(10)
        asker.ask(11)
        await wait_all_tasks_blocked()
        assert client.statistics().in_flight == 3
        by_size = {}
        for each in workers:
            asks = await each.take()
            by_size[len(asks)] = (each, asks)
        slow, [key] = by_size[1]
        quick, _ = by_size[2]
        assert isinstance(key.verb, GenerateKey)
        await slow.send(Answers([Answer(key.id, No(SignerRefusal.TOKEN, ""))]))
        [following] = await slow.take()
        assert isinstance(following.verb, GenerateKey)
        slow.die()
        quick.die()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_one_worker_serves_slow_and_quick_asks_in_turn(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(0)
        busy = await worker.take()
        for number in range(1, 3):
            asker.ask(number, verb=SignCrl("root", number, 0, 1, []))
        for number in range(3, 6):
            asker.ask(number)
        await wait_all_tasks_blocked()
        kinds = []
        for _ in range(3):
            await worker.send(Answers([Answer(each.id, No(SignerRefusal.TOKEN, "")) for each in busy]))
            busy = await worker.take()
            kinds.append([type(each.verb) for each in busy])
        assert kinds == [[SignCrl], [UnwrapKey] * 3, [SignCrl]]
        nursery.cancel_scope.cancel()


async def test_an_ask_that_fits_into_no_frame_is_refused(tmp_path):
    async with playing(tmp_path) as (client, _):
        for verb in (
            SignAttributes("ra", bytes(MAX_BATCH), "sha256"),
            SignCrl("r", 1, 0, 1, [(bytes(MAX_BATCH), 0, 0)]),
        ):
            outcome = await client.ask(verb, share="app", deadline=trio.current_time() + 5)
            assert (type(outcome), outcome.reason) == (No, SignerRefusal.UNSUPPORTED)


async def test_asks_that_do_not_fit_together_are_sent_apart(tmp_path):
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(5):
            asker.ask(number, verb=UnwrapKey("ra", bytes(MAX_BATCH // 3), "pkcs1v15", number))
        seen = []
        with trio.fail_after(60):
            while len(seen) < 5:
                asks = await worker.take()
                seen += numbers(asks)
                await worker.answer(asks)
        await wait_all_tasks_blocked()
        assert sorted(seen) == sorted(asker.came) == [0, 1, 2, 3, 4]


async def test_a_frame_that_was_cut_short_is_sent_again(tmp_path):
    """A worker that died before it had the whole frame did nothing of it."""
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        asker.ask(1, verb=UnwrapKey("ra", bytes(MAX_BATCH // 2), "pkcs1v15", 1))
        await wait_all_tasks_blocked()
        assert await worker.connection.recv(1000)
        worker.die()
        with trio.fail_after(60):
            await worker.accept()
            await worker.answer(await worker.take())
        await wait_all_tasks_blocked()
        assert asker.came == {1: Unwrapped(b"1")}


async def test_a_frame_that_was_cut_short_is_not_sent_again_for_an_asker_who_has_gone(tmp_path):
    """What has not started is not signed for nobody."""
    async with playing(tmp_path) as (client, [worker]):
        came = []

        async def asking() -> None:
            verb = UnwrapKey("ra", bytes(MAX_BATCH // 2), "pkcs1v15", 1)
            try:
                await client.ask(verb, share="app", deadline=trio.current_time() + FAR, told=True)
            except Unreachable as failure:
                came.append(failure)

        async with trio.open_nursery() as short:
            short.start_soon(asking)
            await wait_all_tasks_blocked()
            assert await worker.connection.recv(1000)
            short.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert came == []
                worker.die()
        assert len(came) == 1
        assert client.statistics().waiting == 0


async def test_a_worker_that_stood_still_for_once_is_asked_again(tmp_path):
    """Or an estimate beyond every deadline would stand for ever, since nothing more is sent to correct it."""
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        worker.pace = 60_000_000  # microseconds: a minute
        for number in (1, 2):
            asker.ask(number, deadline=10)
            with trio.fail_after(60):
                taken = await worker.take()
            assert numbers(taken) == [number]
            await worker.answer(taken)
            await wait_all_tasks_blocked()
        assert asker.came == {1: Unwrapped(b"1"), 2: Unwrapped(b"2")}


async def test_whoever_asks_after_the_end_or_waits_at_it_is_told(tmp_path):
    client = SignerClient([str(tmp_path / "none.sock")])
    async with trio.open_nursery() as outer:
        asker = Asker(client, outer)
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            asker.ask(1)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        asker.ask(2)
        await wait_all_tasks_blocked()
        assert isinstance(asker.came[1], Unreachable)
        assert isinstance(asker.came[2], Unreachable)


async def test_a_socket_of_another_user_is_not_trusted(tmp_path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "x.sock"))
    listener.listen()
    real = os.geteuid()
    monkeypatch.setattr("signer.client.connection.os.geteuid", lambda: real + 1)
    client = SignerClient([str(tmp_path / "x.sock")])
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        with pytest.raises(Unreachable):
            await client.ask(ask_of(1), share="app", deadline=trio.current_time() + 0.3)
        nursery.cancel_scope.cancel()
    listener.close()


async def test_what_became_of_asks_and_how_large_frames_were_is_counted(tmp_path):
    """By verb and outcome, answered or not; a frame falls into one class of sizes."""
    async with playing(tmp_path) as (client, [worker]), trio.open_nursery() as nursery:
        asker = Asker(client, nursery)
        for number in range(5):
            asker.ask(number)
        asks = await worker.take()
        refused = [Answer(each.id, No(SignerRefusal.TOKEN, "away")) for each in asks[:2]]
        rest = [Answer(each.id, Unwrapped(b"")) for each in asks[2:]]
        told = WorkerFigures(1, {}, [TokenFigures("hsm", "open", 1, {"unavailable": 2})])
        await worker.send(Answers(refused + rest, 1, told))
        await wait_all_tasks_blocked()
        numbers_of = client.statistics()
        assert numbers_of.outcomes == {("unwrap-key", "token"): 2, ("unwrap-key", "answered"): 3}
        assert sum(numbers_of.sizes) == numbers_of.frames == 1
        assert numbers_of.sizes[3] == 1  # 5 to 8
        assert numbers_of.told.tokens["hsm"].states == {"open": 1}
        asker.ask(6)
        await worker.take()
        worker.die()
        await wait_all_tasks_blocked()
        assert client.statistics().outcomes["unwrap-key", "lost"] == 1
        asker.ask(7, deadline=0.1)
        with trio.fail_after(60):
            while ("unwrap-key", "unreachable") not in client.statistics().outcomes:
                await trio.sleep(0.05)
