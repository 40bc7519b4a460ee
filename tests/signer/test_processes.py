"""Real supervisors and real workers: how they start, what ends them, and that nothing is signed twice when one is killed."""

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
from cryptography import x509

from signer.client import SignerClient, WorkerLost
from signer.contract.framing import Frames, decode_answers, encode_batch
from signer.contract.messages import VERSION, Ask, Batch, Certificate, GenerateKey, No, UnwrapKey
from signer.contract.refusal import SignerRefusal
from tests.signer.kit import SECRET, good_ask, running_signer, start_signer


def live_ask(**changes):
    """A good ask, by the clock on the wall."""
    now = int(time.time())
    return good_ask(deadline=now + 60, not_before=now - 300, not_after=now + 86400, **changes)


def gone(pid: int, within: float = 60.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    return connection


def unread(connection: socket.socket) -> int:
    """How much of what was sent the other side has not taken yet; 0 when it has all of it (unix(7), SIOCOUTQ)."""
    (size,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return size


def asked(connection: socket.socket, *verbs):
    connection.sendall(encode_batch(Batch(VERSION, [Ask(n, verb) for n, verb in enumerate(verbs)])))
    frames = Frames(2**24)
    while not (payloads := frames.feed(connection.recv(65536))):
        pass
    return [each.outcome for each in decode_answers(payloads[0]).answers]


def figures(path: str):
    """What the worker behind a socket tells of itself, as the client learns it: by the statistics of one that asks."""
    from signer.client.figures import Places

    with connected(path) as connection:
        connection.sendall(encode_batch(Batch(VERSION, [])))
        frames = Frames(2**24)
        while not (payloads := frames.feed(connection.recv(65536))):
            pass
    places = Places()
    places.learn(path, decode_answers(payloads[0]).figures)
    return places.statistics()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_workers_are_ready_when_the_line_is_printed(keys_folder):
    with running_signer(keys_folder, "--workers", "2") as signer:
        assert len(signer.sockets) == len(signer.workers) == 2
        assert sorted(children(signer.process.pid)) == sorted(signer.workers)
        for path in signer.sockets:
            with connected(path) as connection:
                [outcome] = asked(connection, live_ask())
                assert isinstance(outcome, Certificate)
        folder = Path(signer.sockets[0]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert not folder.exists()
    assert all(gone(each) for each in signer.workers)


def test_the_end_of_standard_input_ends_everything(keys_folder):
    """The gateway died, by kill -9 or otherwise."""
    with running_signer(keys_folder) as signer:
        signer.process.stdin.close()
        assert signer.process.wait(60) == 0
        assert all(gone(each) for each in signer.workers)


def test_sigterm_ends_everything(keys_folder):
    with running_signer(keys_folder) as signer:
        signer.process.send_signal(signal.SIGTERM)
        assert signer.process.wait(60) == 0
        assert all(gone(each) for each in signer.workers)


def test_workers_do_not_outlive_a_supervisor_that_was_killed(keys_folder):
    with running_signer(keys_folder, "--workers", "2") as signer:
        signer.process.kill()
        assert all(gone(each) for each in signer.workers)
        left = Path(signer.sockets[0]).parent
        assert left.exists()
    with running_signer(keys_folder):
        assert not left.exists()  # the next start cleans up after it


def test_a_named_runtime_folder_keeps_its_paths(keys_folder, tmp_path):
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    with running_signer(keys_folder, "--runtime", str(runtime)) as signer:
        first = signer.sockets
        signer.process.kill()
        signer.process.wait()
    with running_signer(keys_folder, "--runtime", str(runtime)) as signer:
        assert signer.sockets == first == [str(runtime / "0.sock")]
        with connected(first[0]) as connection:
            assert isinstance(asked(connection, live_ask())[0], Certificate)


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    out, err = process.communicate(timeout=60)
    assert out == b""
    return process.returncode, err.decode()


@pytest.mark.parametrize("damage", ["secret", "key", "header", "nothing there", "no secret"])
def test_a_store_that_cannot_be_opened_is_one_sentence(keys_folder, tmp_path, damage):
    folder = tmp_path / "keys"
    if damage != "nothing there":
        shutil.copytree(keys_folder, folder)
    if damage == "key":
        (folder / "issuing.key").write_bytes((folder / "issuing.key").read_bytes()[:-40])
    if damage == "header":
        (folder / "keystore.json").write_text("{}")
    secret = {"secret": b"wrong", "no secret": b""}.get(damage, SECRET)
    status, sentence = ended(start_signer(folder, secret=secret))
    assert status == 2
    assert sentence.count("\n") == 1
    assert "Traceback" not in sentence
    expected = {"secret": "secret", "key": "issuing.key", "header": "keystore.json", "no secret": "first line"}
    assert expected.get(damage, "not a key store") in sentence


@pytest.mark.parametrize("fault", ["open to others", "too long"])
def test_a_runtime_folder_that_will_not_do_is_one_sentence(keys_folder, tmp_path, fault):
    runtime = tmp_path / ("r" if fault == "open to others" else "r" * 100)
    runtime.mkdir(mode=0o700)
    if fault == "open to others":
        runtime.chmod(0o755)
    status, sentence = ended(start_signer(keys_folder, "--runtime", str(runtime)))
    assert (status, sentence.count("\n")) == (2, 1)
    assert "0700" in sentence or "too long" in sentence


def test_a_bad_frame_costs_its_own_connection_alone(keys_folder):
    with running_signer(keys_folder) as signer:
        with connected(signer.sockets[0]) as good:
            for bad in (b"\xff" * 8, b"\0\0\0\0", b"\0\0\0\2\x92\x01", b"GET / HTTP/1.1\r\n\r\n"):
                with connected(signer.sockets[0]) as other:
                    other.sendall(bad)
                    assert other.recv(10) == b""
            assert isinstance(asked(good, live_ask())[0], Certificate)
        assert children(signer.process.pid) == signer.workers


def test_a_half_sent_frame_holds_up_nobody(keys_folder):
    with (
        running_signer(keys_folder) as signer,
        connected(signer.sockets[0]) as slow,
        connected(signer.sockets[0]) as quick,
    ):
        frame = encode_batch(Batch(VERSION, [Ask(1, live_ask())]))
        slow.sendall(frame[:100])
        assert isinstance(asked(quick, live_ask())[0], Certificate)
        slow.sendall(frame[100:])
        assert slow.recv(65536)


def test_several_gateways_are_served(keys_folder):
    with running_signer(keys_folder) as signer:
        connections = [connected(signer.sockets[0]) for _ in range(5)]
        for each in connections:
            assert isinstance(asked(each, live_ask())[0], Certificate)
            each.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_not_served(keys_folder, tmp_path):
    """SO_PEERCRED, beside the folder's mode: each alone would do."""
    program = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.settimeout(10)\n"
        "s.connect(sys.argv[1])\n"
        "print(s.recv(1) == b'')\n"
    )
    with running_signer(keys_folder) as signer:
        path = Path(signer.sockets[0])
        command = [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-I", "-c", program, str(path)]
        blocked = subprocess.run(command, user=65534, group=65534, capture_output=True, text=True, check=False)
        assert "PermissionError" in blocked.stderr
        path.parent.chmod(0o755)
        path.chmod(0o666)
        refused = subprocess.run(command, user=65534, group=65534, capture_output=True, text=True, check=False)
        assert refused.stdout.strip() == "True", refused.stderr
        with connected(str(path)) as connection:
            assert isinstance(asked(connection, live_ask())[0], Certificate)


def test_a_worker_cannot_be_read_or_dumped(keys_folder):
    with running_signer(keys_folder) as signer:
        for pid in (signer.process.pid, *signer.workers):
            limits = Path(f"/proc/{pid}/limits").read_text()
            [core] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
            assert core.split()[4:6] == ["0", "0"]
            assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert SECRET not in Path(f"/proc/{pid}/environ").read_bytes()


def test_sigterm_to_a_worker_lets_it_finish_its_batch(keys_folder):
    with running_signer(keys_folder) as signer, connected(signer.sockets[0]) as connection:
        verbs = [GenerateKey("RSA_2048") for _ in range(5)]
        connection.sendall(encode_batch(Batch(VERSION, [Ask(n, verb) for n, verb in enumerate(verbs)])))
        while unread(connection):
            time.sleep(0.001)
        time.sleep(0.02)  # a batch of so many keys takes longer by far, and need not have begun
        os.kill(signer.workers[0], signal.SIGTERM)
        frames, payloads = Frames(2**24), []
        while not payloads:
            received = connection.recv(65536)
            assert received, "it ended without an answer"
            payloads = frames.feed(received)
        assert len(decode_answers(payloads[0]).answers) == 5


async def test_nothing_is_signed_twice_when_workers_are_killed_under_load(keys_folder):
    """kill -9 with asks in flight: each is answered or `WorkerLost`; the worker comes back; no serial has two certificates."""
    with running_signer(keys_folder, "--workers", "2") as signer:
        client = SignerClient(signer.sockets)
        signed: Counter[bytes] = Counter()
        lost: list[bytes] = []
        stopping = trio.Event()

        async def asker(share: str) -> None:
            while not stopping.is_set():
                ask = live_ask()
                try:
                    outcome = await client.ask(ask, share=share, deadline=trio.current_time() + 50)
                except WorkerLost:
                    lost.append(ask.serial)
                    # The gateway burns the serial. Another gateway, or a replay, must not get far with the same ask:
                    # a new ticket would be needed, and the serial is known to a worker that lives.
                    continue
                assert isinstance(outcome, Certificate), outcome
                serial = x509.load_der_x509_certificate(outcome.der).serial_number
                assert serial == int.from_bytes(ask.serial, "big")
                signed[ask.serial] += 1

        async with trio.open_nursery() as serving:
            await serving.start(client.run)
            async with trio.open_nursery() as nursery:
                for number in range(16):
                    nursery.start_soon(asker, f"app-{number % 3}")
                for _ in range(3):
                    await trio.sleep(0.5)
                    before = len(signed)
                    victims = children(signer.process.pid)
                    for victim in victims[:1]:
                        os.kill(victim, signal.SIGKILL)
                    with trio.fail_after(90):
                        while len(children(signer.process.pid)) < 2 or client.statistics().workers < 2:
                            await trio.sleep(0.02)
                        while len(signed) < before + 100:
                            await trio.sleep(0.02)
                stopping.set()
            serving.cancel_scope.cancel()
        assert max(signed.values()) == 1
        assert not set(signed) & set(lost)
        assert len(signed) > 300


async def test_several_gateway_workers_ask_at_once_and_a_busy_one_does_not_shut_out_a_quiet_one(keys_folder):
    with running_signer(keys_folder) as signer:
        busy, quiet = SignerClient(signer.sockets), SignerClient(signer.sockets)
        signed: Counter[str] = Counter()
        beside: list[int] = []

        async def asker(client: SignerClient, name: str) -> None:
            ask = live_ask()
            outcome = await client.ask(ask, share="app", deadline=trio.current_time() + 60)
            assert isinstance(outcome, Certificate), outcome
            serial = x509.load_der_x509_certificate(outcome.der).serial_number
            assert serial == int.from_bytes(ask.serial, "big"), "each hears of its own asks"
            signed[name] += 1

        async def flood() -> None:
            while True:
                await asker(busy, "busy")

        async with trio.open_nursery() as serving:
            await serving.start(busy.run)
            await serving.start(quiet.run)
            for _ in range(64):
                serving.start_soon(flood)
            while signed["busy"] < 200:
                await trio.sleep(0.01)
            for _ in range(20):
                before = signed["busy"]
                await asker(quiet, "quiet")
                beside.append(signed["busy"] - before)
            serving.cancel_scope.cancel()
        # A worker takes a frame from each connection in turn, and no frame of the busy one has more than its 64 asks.
        assert sorted(beside)[10] <= 4 * 64, beside


async def test_asks_wait_while_the_only_worker_is_away(keys_folder):
    with running_signer(keys_folder) as signer:
        client = SignerClient(signer.sockets)
        async with trio.open_nursery() as serving:
            await serving.start(client.run)
            with trio.fail_after(60):
                while not client.reachable:
                    await trio.sleep(0.01)
            [worker] = signer.workers
            os.kill(signer.process.pid, signal.SIGSTOP)  # nobody takes its place before the ask has come
            os.kill(worker, signal.SIGKILL)
            with trio.fail_after(60):
                while client.reachable:
                    await trio.sleep(0.01)
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    outcome = await client.ask(live_ask(), share="app", deadline=trio.current_time() + 50)
                    assert isinstance(outcome, Certificate)

                nursery.start_soon(ask)
                while not client.statistics().waiting:
                    await trio.sleep(0.01)
                os.kill(signer.process.pid, signal.SIGCONT)
            serving.cancel_scope.cancel()


async def test_a_key_that_was_made_meanwhile_is_usable_without_a_restart(keys_folder, tmp_path):
    folder = tmp_path / "keys"
    shutil.copytree(keys_folder, folder)
    with running_signer(folder) as signer, connected(signer.sockets[0]) as connection:
        [before] = asked(connection, live_ask(issuer="devices"))
        assert (type(before), before.reason) == (No, SignerRefusal.UNKNOWN_KEY)
        command = [sys.executable, "-m", "signer", "create-authority", "--keys", str(folder), "--name", "devices"]
        done = subprocess.run(
            [*command, "--subject", "CN=Devices", "--parent", "root"],
            input=SECRET + b"\n",
            capture_output=True,
            check=True,
        )
        assert json.loads(done.stdout)["issuing"]["key"] == "devices"
        [after] = asked(connection, live_ask(issuer="devices"))
        assert isinstance(after, Certificate)


def test_a_log_that_cannot_be_written_ends_nobody(keys_folder, tmp_path):
    """Standard error leads to a full disk: a worker that dies is replaced all the same, and a rude peer costs nothing."""
    with Path("/dev/full").open("w") as full, running_signer(keys_folder, log=full) as signer:
        os.kill(signer.workers[0], signal.SIGKILL)
        assert gone(signer.workers[0])
        with connected(signer.sockets[0]) as rude, connected(signer.sockets[0]) as honest:
            rude.sendall(b"\xff" * 8)
            assert isinstance(asked(honest, live_ask())[0], Certificate)
            assert rude.recv(1) == b""
            assert isinstance(asked(honest, live_ask())[0], Certificate)


def test_a_worker_that_cannot_be_started_again_is_tried_again_and_the_others_go_on(keys_folder):
    with running_signer(keys_folder, "--workers", "2") as signer:
        pid = signer.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), limits[1]))
        os.kill(signer.workers[0], signal.SIGKILL)
        assert b"ended with status -9" in signer.process.stderr.readline()
        assert b"cannot be started: Too many open files" in signer.process.stderr.readline()
        with connected(signer.sockets[1]) as other:
            assert isinstance(asked(other, live_ask())[0], Certificate)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        with connected(signer.sockets[0]) as again:
            again.settimeout(30)
            assert isinstance(asked(again, live_ask())[0], Certificate)


def test_a_verb_of_the_wrong_key_is_refused_by_a_real_worker_too(keys_folder):
    with running_signer(keys_folder) as signer, connected(signer.sockets[0]) as connection:
        issuer, ra = asked(connection, UnwrapKey("issuing", bytes(256), "pkcs1v15", 16), live_ask(issuer="issuing-ra"))
        assert issuer.reason is ra.reason is SignerRefusal.WRONG_KIND
