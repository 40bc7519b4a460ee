"""What the signer's processes give up, seen from outside by /proc and from within by trying."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signer.contract.messages import Certificate
from signer.hardening import memory, process, seccomp
from signer.hardening.seccomp import Filter, Machine, call_number, program
from tests.doubles.programs import lacking
from tests.signer.kit import SECRET, running_signer, start_signer
from tests.signer.test_processes import asked, children, connected, ended, live_ask

ROOT = Path(__file__).parents[2]
X86_64, AARCH64 = Machine(0, 0xC000003E), Machine(1, 0xC00000B7)
ALLOWED, KILLED, REFUSED, MISSING = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def facts(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def verdict(code: bytes, at: Machine, number: int, *arguments: int) -> int:
    """What a filter says to a call: the instructions of classic BPF that it is made of, carried out as the kernel does."""
    octets = number.to_bytes(4, "little") + at.audit.to_bytes(4, "little") + bytes(8)
    octets += b"".join(each.to_bytes(8, "little") for each in (*arguments, *[0] * (6 - len(arguments))))
    register = position = 0
    while True:
        at_here = code[8 * position : 8 * position + 8]
        operation, if_true, if_false = int.from_bytes(at_here[:2], "little"), at_here[2], at_here[3]
        value = int.from_bytes(at_here[4:], "little")
        position += 1
        if operation == 0x20:
            register = int.from_bytes(octets[value : value + 4], "little")
        elif operation == 0x06:
            return value
        else:
            holds = {0x15: register == value, 0x35: register >= value, 0x45: register & value != 0}[operation]
            position += if_true if holds else if_false


def ran(program_text: str, **settings: object) -> "subprocess.CompletedProcess[str]":
    """A program that hardened itself as a worker does, with `attempt(function, *arguments)` to print what comes of it."""
    prelude = (
        "import ctypes, errno, os, socket, sys\n"
        "from signer.hardening import harden\n"
        "from signer.hardening.seccomp import Filter, install\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def attempt(what, *arguments):\n"
        "    try:\n"
        "        what(*arguments)\n"
        "    except OSError as error:\n"
        "        print(what.__name__, errno.errorcode[error.errno])\n"
        "    else:\n"
        "        print(what.__name__, 'done')\n"
        "    sys.stdout.flush()\n"
        "def call(number, *arguments):\n"
        "    return errno.errorcode[ctypes.get_errno()] if libc.syscall(number, *arguments) < 0 else 'done'\n"
        "harden(follow_parent=False)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + program_text],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
        **settings,
    )


def needs_filters() -> None:
    if (reason := seccomp.unavailable()) is not None:
        lacking(reason)


# What the processes look like


def test_every_process_has_given_up_what_it_does_not_need(keys_folder):
    with running_signer(keys_folder, "--workers", "2") as signer:
        for pid in (signer.process.pid, *signer.workers):
            status = facts(pid)
            assert status["NoNewPrivs"] == "1"
            assert status["Umask"] == "0077"
        for pid in signer.workers:
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            assert facts(pid)["Threads"] == "1"


def test_workers_and_only_they_are_under_a_filter(keys_folder):
    needs_filters()
    with running_signer(keys_folder) as signer:
        assert facts(signer.workers[0])["Seccomp"] == "2"
        assert facts(signer.process.pid)["Seccomp"] == "0"  # it starts programs: the workers
        with connected(signer.sockets[0]) as connection:
            assert isinstance(asked(connection, live_ask())[0], Certificate)


def descriptors(pid: int) -> list[str]:
    """What a process has open; a file that it closes meanwhile is none."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(each))
    return found


def test_no_process_of_the_signer_holds_a_descriptor_that_is_not_its_own(keys_folder, tmp_path):
    """A gateway's database or listener, inherited by accident, would be a way out of a worker without a network."""
    open_to_children = os.open(tmp_path / "database", os.O_CREAT | os.O_RDWR, 0o600)
    os.set_inheritable(open_to_children, True)
    command = [sys.executable, "-m", "signer", "serve", "--keys", str(keys_folder)]
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, close_fds=False, stderr=subprocess.DEVNULL
    )
    try:
        os.close(open_to_children)
        started.stdin.write(SECRET + b"\n")
        started.stdin.flush()
        assert started.stdout.readline()
        [worker] = children(started.pid)
        for pid in (started.pid, worker):
            opened = descriptors(pid)
            assert not any("database" in each for each in opened), opened
        kinds = [each.partition(":")[0] for each in descriptors(worker)]
        assert kinds.count("socket") in {1, 3}  # the listener, and soon the pair that wakes it for signals
    finally:
        started.stdin.close()
        started.wait(60)
        started.stdout.close()


def test_a_worker_s_environment_holds_only_what_finds_its_code(keys_folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for a signer")
    with running_signer(keys_folder) as signer:
        environment = Path(f"/proc/{signer.workers[0]}/environ").read_bytes()
        assert b"not for a signer" not in environment
        assert b"PATH=" in environment


@given(st.dictionaries(st.sampled_from(["PATH", "PYTHONPATH", "LC_ALL", "SOFTHSM2_CONF", "PGPASSWORD"]), st.text()))
def test_a_worker_with_tokens_keeps_what_modules_read(variables):
    assert process.surroundings(variables, tokens=True) == variables
    kept = process.surroundings(variables, tokens=False)
    assert set(kept) == set(variables) - {"SOFTHSM2_CONF", "PGPASSWORD"}


def test_descriptors_of_strangers_are_closed_around_our_own():
    done = ran(
        "from signer.hardening.process import close_strangers\n"
        "made = [os.open('/dev/null', os.O_RDONLY) for _ in range(9)]\n"
        "close_strangers(made[2], made[5])\n"
        "for each in made: attempt(os.fstat, each)\n"
    )
    ends = [line.split()[1] for line in done.stdout.splitlines()]
    assert [number for number, end in enumerate(ends) if end == "done"] == [2, 5], done


# Memory


def test_memory_is_locked_where_the_machine_permits_it(keys_folder):
    with running_signer(keys_folder) as signer:
        locked = [int(facts(pid)["VmLck"].split()[0]) for pid in (signer.process.pid, *signer.workers)]
    may = memory._capable() or resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] in {-1, *range(memory.NEEDED, 2**62)}
    assert all(locked) if may else not any(locked)


def test_a_limit_that_is_too_small_is_said_once_and_stops_nothing(keys_folder):
    """With MCL_FUTURE, what goes beyond a small limit would not be swapped but refused."""
    if os.geteuid() != 0:
        lacking("only root can give up CAP_IPC_LOCK for others")
    command = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "prlimit", "--memlock=65536:65536"]
    command += [sys.executable, "-m", "signer", "serve", "--keys", str(keys_folder), "--workers", "2"]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    started.stdin.write(SECRET + b"\n")
    started.stdin.flush()
    assert started.stdout.readline()
    assert {facts(pid)["VmLck"] for pid in (started.pid, *children(started.pid))} == {"0 kB"}
    _, said = started.communicate(timeout=60)
    lines = [line for line in said.decode().splitlines() if "memory is not locked" in line]
    assert len(lines) == 1, said
    assert lines[0].startswith("signer: note: ")
    assert "64 KiB" in lines[0]


@given(st.binary(max_size=100))
def test_wiping_leaves_zeros_of_the_same_length(content):
    secret = bytearray(content)
    view = memoryview(secret)
    memory.wipe(secret)
    assert bytes(view) == bytes(len(content))


# The filters, call by call


@pytest.mark.parametrize("at", [X86_64, AARCH64], ids=["x86-64", "aarch64"])
@pytest.mark.parametrize("chosen", list(Filter))
@pytest.mark.parametrize("name", sorted(seccomp._CALLS))
def test_each_call_has_its_verdict(name, chosen, at):
    number = call_number(name, at)
    if number is None:
        assert at is AARCH64
        return
    strict = chosen is Filter.STRICT
    expected = REFUSED
    if name in {"execve", "execveat", "ptrace"}:
        expected = KILLED if strict else REFUSED
    elif name in {"socket", "connect", "bind", "listen", "fork", "vfork", "memfd_create"}:
        expected = REFUSED if strict else ALLOWED
    elif name == "clone3":
        expected = MISSING
    elif name in {"prctl", "seccomp"}:
        expected = ALLOWED
    elif name == "clone":
        expected = REFUSED if strict else ALLOWED
    assert verdict(program(chosen, at), at, number) == expected


@pytest.mark.parametrize("at", [X86_64, AARCH64], ids=["x86-64", "aarch64"])
@pytest.mark.parametrize("chosen", list(Filter))
def test_arguments_decide_on_threads_namespaces_and_dumps(chosen, at):
    code, clone, prctl = program(chosen, at), call_number("clone", at), call_number("prctl", at)
    assert verdict(code, at, clone, 0x003D0F00) == ALLOWED  # what glibc asks for a thread
    for namespace in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(code, at, clone, 0x003D0F00 | namespace) == REFUSED
    assert verdict(code, at, prctl, 4, 1) == REFUSED  # PR_SET_DUMPABLE
    assert verdict(code, at, prctl, 15) == ALLOWED  # PR_SET_NAME, which threads call


@pytest.mark.parametrize("chosen", list(Filter))
@pytest.mark.parametrize(("at", "other"), [(X86_64, AARCH64), (AARCH64, X86_64)])
def test_another_machine_s_numbering_is_no_way_round(chosen, at, other):
    """A 32-bit call on x86-64 (int 0x80), and the x32 numbering with its own bit."""
    expected = KILLED if chosen is Filter.STRICT else REFUSED
    assert verdict(program(chosen, at), other, 0) == expected
    assert verdict(program(chosen, X86_64), X86_64, 0x40000000) == expected


@given(st.integers(0, 0x3FFFFFFF))
def test_what_is_not_named_is_let_through(number):
    named = {call_number(name, X86_64) for name in seccomp._CALLS}
    if number not in named:
        for chosen in Filter:
            assert verdict(program(chosen, X86_64), X86_64, number) == ALLOWED


def test_the_numbers_are_this_machine_s():
    """Where the C library's headers are: asm/unistd_64.h."""
    headers = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")]
    text = next((each.read_text() for each in headers if each.exists()), None)
    at = seccomp.machine()
    if text is None or at is None or at.column != 0:
        return  # the verdicts of the kernel itself are below
    known = dict(line.split()[1:3] for line in text.splitlines() if line.startswith("#define __NR_"))
    assert {name: int(known[f"__NR_{name}"]) for name in seccomp._CALLS} == {
        name: call_number(name, at) for name in seccomp._CALLS
    }


def test_a_machine_without_a_filter_says_so(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert "riscv64" in seccomp.unavailable()
    assert not seccomp.install(Filter.STRICT)


# The filters, in the kernel


def test_a_worker_s_filter_leaves_it_no_network_no_child_and_no_other_process():
    needs_filters()
    done = ran(
        "print(install(Filter.STRICT))\n"
        "for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, 38):\n"
        "    attempt(socket.socket, family, socket.SOCK_RAW if family > 10 else socket.SOCK_STREAM)\n"
        "pair = socket.socketpair()\n"
        "attempt(pair[0].connect, '/run/dbus/system_bus_socket')\n"
        "attempt(os.fork)\n"
        "attempt(os.chroot, '/')\n"
        "import threading\n"
        "threads = [threading.Thread(target=print, args=('thread done',))]\n"
        "for each in threads: each.start(); each.join()\n"
        "attempt(os.open, '/etc/hostname', os.O_RDONLY)\n"
    )
    expected = [
        "True",
        *["socket EPERM"] * 6,
        "connect EPERM",
        "fork EPERM",
        "chroot EPERM",
        "thread done",
        "open done",
    ]
    assert done.stdout.splitlines() == expected, done


@pytest.mark.parametrize("deed", ["os.execv('/bin/true', ['true'])", "libc.ptrace(0, 0, 0, 0)"])
def test_a_worker_that_runs_a_program_or_traces_one_is_killed(deed):
    needs_filters()
    done = ran(f"install(Filter.STRICT)\nprint('before', flush=True)\n{deed}\nprint('after', flush=True)\n")
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, "before\n")


def test_a_worker_with_tokens_may_dial_and_fork_but_run_nothing():
    needs_filters()
    done = ran(
        "print(install(Filter.TOKENS))\n"
        "attempt(socket.socket, socket.AF_INET)\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(7)\n"
        "print(os.waitpid(child, 0)[1] >> 8)\n"
        "attempt(os.execv, '/bin/true', ['true'])\n"
        "attempt(os.chroot, '/')\n"
    )
    assert done.stdout.splitlines() == ["True", "socket done", "7", "execv EPERM", "chroot EPERM"], done


def test_a_filter_holds_for_threads_that_ran_before_it():
    """A token's module has its own threads by the time when the keys are open."""
    needs_filters()
    done = ran(
        "import threading\n"
        "go = threading.Event()\n"
        "thread = threading.Thread(target=lambda: (go.wait(), attempt(socket.socket, socket.AF_INET)))\n"
        "thread.start()\n"
        "install(Filter.STRICT)\n"
        "go.set()\n"
        "thread.join()\n"
    )
    assert done.stdout.split() == ["socket", "EPERM"], done


def test_a_worker_that_was_killed_for_what_it_tried_is_replaced_and_named(keys_folder):
    """SIGSYS is what the kernel sends for a forbidden call; the sentence gives an operator the number to look up."""
    started = start_signer(keys_folder)
    try:
        assert started.stdout.readline()
        [worker] = children(started.pid)
        os.kill(worker, signal.SIGSYS)
        until = time.monotonic() + 60
        while children(started.pid) in ([], [worker]) and time.monotonic() < until:
            time.sleep(0.02)
        [another] = children(started.pid)
        assert another != worker
    finally:
        started.stdin.close()
        started.wait(60)
    said = started.stderr.read().decode()
    started.stdout.close()
    started.stderr.close()
    assert f"status -{int(signal.SIGSYS)}" in said


# Others of the same user


# Root may read everybody, so under root both become somebody else, for whom this interpreter may be out of reach.
PLAIN = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
SOMEBODY = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def tried_on(pid: int) -> list[str]:
    """What another process of the same user gets out of a process, by the ways that there are."""
    text = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "pid = int(sys.argv[1])\n"
        "for name in ('mem', 'environ', 'maps', 'fd', 'auxv'):\n"
        "    try:\n"
        "        path = f'/proc/{pid}/{name}'\n"
        "        os.listdir(path) if name == 'fd' else open(path, 'rb').close()\n"
        "        print(name, 'open')\n"
        "    except OSError:\n"
        "        print(name, 'closed')\n"
        "near = ctypes.create_string_buffer(8)\n"
        "here = (ctypes.c_void_p * 2)(ctypes.addressof(near), 8)\n"
        "print('vm', libc.process_vm_readv(pid, here, 1, here, 1, 0), ctypes.get_errno())\n"
        "print('ptrace', libc.ptrace(16, pid, 0, 0), ctypes.get_errno())\n"  # PTRACE_ATTACH
    )
    done = subprocess.run(
        [PLAIN, "-I", "-c", text, str(pid)], capture_output=True, text=True, check=True, timeout=60, **SOMEBODY
    )
    return done.stdout.splitlines()


CLOSED = ["mem closed", "environ closed", "maps closed", "fd closed", "auxv closed", "vm -1 1", "ptrace -1 1"]


@pytest.mark.parametrize("hardened", [True, False])
def test_another_process_of_the_same_user_reads_a_process_unless_it_is_hardened(hardened):
    """The gateway is one, when it is somebody else's: no /proc/PID/mem, no ptrace, no process_vm_readv."""
    text = "from signer.hardening import harden\nharden(follow_parent=False)\n" if hardened else ""
    text += "print('ready', flush=True)\ninput()\n"
    with subprocess.Popen(
        [PLAIN, "-B", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, **SOMEBODY
    ) as started:
        assert started.stdout.readline() == b"ready\n"
        found = tried_on(started.pid)
        started.kill()
    if hardened:
        assert found == CLOSED
    else:
        assert "environ open" in found


def test_nobody_of_its_user_reads_a_signer(keys_folder):
    with running_signer(keys_folder) as signer:
        for pid in (signer.process.pid, *signer.workers):
            assert tried_on(pid) == CLOSED
            # What the kernel goes by: a process that may be dumped has its folder in /proc owned by its user.
            assert Path(f"/proc/{pid}/mem").stat().st_uid == 0


def test_a_start_that_fails_says_one_sentence_and_no_note(keys_folder):
    status, sentence = ended(start_signer(keys_folder, secret=b"wrong"))
    assert (status, sentence.count("\n")) == (2, 1)
    assert "note" not in sentence
