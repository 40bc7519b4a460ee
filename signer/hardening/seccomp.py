"""A filter of system calls for workers whose keys are open: no network, no programs, no other processes. No way back.

It names what is refused and lets the rest through. A list of what is allowed would be stronger on paper, and would
break on the day when Python, glibc, OpenSSL or a token's module begins to use another call: a signer that stops after
an update of the C library teaches its operator to switch the filter off. What a thief of keys wants is named here.

Two filters: STRICT for workers whose keys are all in software, TOKENS for workers with PKCS#11 modules, some of which
dial to an HSM, start threads or fork. A refused call fails with EPERM, so that a library that merely tries goes on.
Only what nothing in a worker ever does, and an intruder does first, ends it at once under STRICT: execve, execveat,
ptrace, and calls in another machine's numbering. The supervisor says so and starts another.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

# linux/seccomp.h, linux/filter.h, linux/audit.h
_SET_MODE_FILTER: Final = 1
_GET_ACTION_AVAIL: Final = 2
_TSYNC: Final = 1  # every thread of the process: a token's module may have started some
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000  # the whole process, with SIGSYS
_EPERM: Final = 0x00050000 | errno.EPERM
_ENOSYS: Final = 0x00050000 | errno.ENOSYS
_NUMBER: Final = 0  # struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits
_ARCHITECTURE: Final = 4
_FIRST_ARGUMENT: Final = 16  # its lower half; both machines are little-endian
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_X32: Final = 0x40000000  # the bit of x86-64's second numbering

_NAMESPACES: Final = 0x7E020000  # clone(2): CLONE_NEWNS to CLONE_NEWNET
_THREAD: Final = 0x00010000
_PR_SET_DUMPABLE: Final = 4

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # a column below, and AUDIT_ARCH
# Numbers on x86-64 and aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None where a machine has no such call.
_CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fork": (57, None),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listen": (50, 201),
    "lookup_dcookie": (212, 18),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "modify_ldt": (154, None),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "seccomp": (317, 277),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
    "vhangup": (153, 58),
}
_JUDGED: Final = frozenset({"clone", "clone3", "prctl"})  # by their arguments, below
# A worker with keys in software was born with its listener: of sockets it accepts, and it makes a pair at its start.
# socketpair(2) knows the family AF_UNIX alone. io_uring, which would do all of this unseen, is refused to everybody.
_STRICT_ALONE: Final = frozenset({"bind", "connect", "fork", "listen", "memfd_create", "socket", "vfork"})
_NEVER: Final = frozenset({"execve", "execveat", "ptrace"})
_REFUSED: Final = frozenset(_CALLS) - _JUDGED - _STRICT_ALONE - _NEVER - {"seccomp"}


@unique
class Filter(Enum):
    """What a worker may not do."""

    STRICT = "strict"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor's numbering: its column in the table, and its name in a filter."""

    column: int
    audit: int


def machine() -> Machine | None:
    """This machine's numbering, None where no filter is known for it."""
    known = _MACHINES.get(platform.machine())
    # A 32-bit interpreter on a 64-bit kernel makes calls in another numbering.
    return Machine(*known) if sys.platform == "linux" and known is not None and sys.maxsize > 2**32 else None


def call_number(name: str, at: Machine) -> int | None:
    """The number of a system call of the table, None where the machine has none."""
    return _CALLS[name][at.column]


def program(chosen: Filter, at: Machine) -> bytes:
    """The filter as instructions of classic BPF, eight bytes each (struct sock_filter)."""
    strict = chosen is Filter.STRICT
    foreign, never = (_KILL, _KILL) if strict else (_EPERM, _EPERM)
    code = [_do(_LOAD, _ARCHITECTURE), _do(_EQUAL, at.audit, 1, 0), _do(_RETURN, foreign), _do(_LOAD, _NUMBER)]
    code += [_do(_AT_LEAST, _X32, 0, 1), _do(_RETURN, foreign)]
    for name in sorted(_NEVER):
        code += _on(name, at, [_do(_RETURN, never)])
    for name in sorted(_REFUSED | (_STRICT_ALONE if strict else set())):
        code += _on(name, at, [_do(_RETURN, _EPERM)])
    # clone3 keeps its flags in memory, where no filter looks; without it glibc goes back to clone.
    code += _on("clone3", at, [_do(_RETURN, _ENOSYS)])
    flags = [_do(_ANY_BIT, _NAMESPACES, 0, 1), _do(_RETURN, _EPERM)]
    if strict:
        flags += [_do(_ANY_BIT, _THREAD, 1, 0), _do(_RETURN, _EPERM)]
    code += _on("clone", at, [_do(_LOAD, _FIRST_ARGUMENT), *flags, _do(_RETURN, _ALLOW)])
    dumpable = [_do(_EQUAL, _PR_SET_DUMPABLE, 0, 1), _do(_RETURN, _EPERM)]
    code += _on("prctl", at, [_do(_LOAD, _FIRST_ARGUMENT), *dumpable, _do(_RETURN, _ALLOW)])
    return b"".join([*code, _do(_RETURN, _ALLOW)])


def unavailable() -> str | None:
    """A sentence that says why workers run without a filter here, None where they have one. Nothing is changed."""
    at = machine()
    if at is None:
        return f"system calls of workers are not filtered: no filter is written for {platform.machine()}"
    action = ctypes.c_uint32(_KILL)
    if _seccomp(at, _GET_ACTION_AVAIL, 0, ctypes.byref(action)) != 0:
        return (
            f"system calls of workers are not filtered: this kernel has no seccomp ({os.strerror(ctypes.get_errno())})"
        )
    return None


def install(chosen: Filter) -> bool:
    """Put a filter over every thread of this process, for good. False where the machine has none (`unavailable`).

    The process has given up new privileges before (prctl(2), PR_SET_NO_NEW_PRIVS), as the kernel wants it.
    """
    at = machine()
    if at is None:
        return False
    code = program(chosen, at)
    held = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(
        struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    )  # struct sock_fprog
    return _seccomp(at, _SET_MODE_FILTER, _TSYNC, header) == 0


def _seccomp(at: Machine, operation: int, flags: int, argument: object) -> int:
    # Its results are those of syscall(2), where glibc has no function for it: an error is -1 and errno.
    call = ctypes.CDLL(None, use_errno=True).syscall
    return int(
        call(ctypes.c_long(call_number("seccomp", at) or 0), ctypes.c_long(operation), ctypes.c_long(flags), argument)
    )


def _on(name: str, at: Machine, then: Iterable[bytes]) -> list[bytes]:
    number = call_number(name, at)
    steps = list(then)
    return [] if number is None else [_do(_EQUAL, number, 0, len(steps)), *steps]


def _do(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
