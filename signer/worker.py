"""One worker: one process, one thread, one session with the keys. A frame in, the batch done, one frame out.

No ask is carried out twice, none of them ends the process, and a peer that breaks the contract loses its connection.
Nothing here knows what a verb checks; nothing in `issuance` knows that there are sockets.
"""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, assert_never

import msgspec

from signer.contract.framing import (
    MAX_BATCH,
    BadFrame,
    Frames,
    FrameTooLarge,
    decode_batch,
    encode_answers,
)
from signer.contract.messages import (
    VERSION,
    Answer,
    Answers,
    Batch,
    Certificate,
    GenerateKey,
    IssueCertificate,
    No,
    Outcome,
    RevocationList,
    SignAttributes,
    Signature,
    SignCrl,
    UnwrapKey,
    Unwrapped,
    Verb,
)
from signer.contract.refusal import SignerRefusal
from signer.issuance.crl import sign_crl
from signer.issuance.issue import issue
from signer.issuance.issuer import Issuer, issuer_of
from signer.issuance.ra import sign_attributes, unwrap
from signer.issuance.refused import Refused
from signer.issuance.subject_key import generate_key
from signer.issuance.ticket import Tickets
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import KeyKind, KeyStore
from signer.keystore.seal import KEY_LENGTH
from signer.keystore.softkey import SoftKeyStore
from signer.keystore.token import tokens_of

_CONNECTIONS: Final = 64  # gateways' processes on one machine, with room to spare
_LENGTH: Final = 4  # bytes
_READ: Final = 256 * 1024  # bytes
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_DUMPABLE: Final = 4
_STALLED: Final = 5.0  # seconds; a gateway that reads nothing for so long must not hold up the others


class Desk:
    """Carries out verbs with the keys of one store; holds what must be remembered between them."""

    def __init__(self, store: KeyStore, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._issuers: dict[str, Issuer] = {}
        self._tickets = Tickets()
        self._substitutes = os.urandom(32)

    def warm(self) -> None:
        """Open every key, so that no enrollment pays for it. Raises `KeyStoreError` for the first that is damaged."""
        for name in self._store.names():
            if self._store.find(name).kind is KeyKind.ISSUER:
                self._issuer(name)

    def answer(self, batch: Batch) -> Answers:
        """The outcomes of a batch, in its order. Never raises."""
        if batch.version != VERSION:
            no = No(SignerRefusal.UNSUPPORTED, f"this signer speaks version {VERSION}, not {batch.version}")
            return Answers([Answer(each.id, no) for each in batch.asks])
        return Answers([Answer(each.id, self._outcome(each.verb)) for each in batch.asks])

    def _outcome(self, verb: Verb) -> Outcome:
        try:
            return self._do(verb)
        except Refused as refused:
            return No(refused.reason, refused.detail)
        except KeyStoreError as error:
            return No(error.refusal, str(error))
        except Exception:  # noqa: BLE001 - a bug or a broken token: one ask fails, and its neighbours go on
            traceback.print_exc()
            return No(SignerRefusal.TOKEN, "the signer failed; its log says why")

    def _do(self, verb: Verb) -> Outcome:
        match verb:
            case IssueCertificate():
                return Certificate(issue(self._issuer(verb.issuer), verb, self._tickets, now=int(self._now())))
            case UnwrapKey():
                return Unwrapped(unwrap(self._store.find(verb.ra), verb, substitutes=self._substitutes))
            case SignAttributes():
                return Signature(sign_attributes(self._store.find(verb.ra), verb))
            case SignCrl():
                return RevocationList(sign_crl(self._issuer(verb.issuer), verb))
            case GenerateKey():
                return generate_key(verb.algorithm, self._store)
            case _:
                assert_never(verb)

    def _issuer(self, name: str) -> Issuer:
        found = self._issuers.get(name)
        if found is None:
            found = self._issuers[name] = issuer_of(self._store.find(name))
        return found


class Worker:
    """The loop around a desk: a listening UNIX socket, the gateways' connections, and two ways to be told to stop.

    `listener` is bound and listens. `lifeline` is a descriptor that reads end of file when the supervisor is gone.
    """

    def __init__(self, desk: Desk, listener: socket.socket, lifeline: int) -> None:
        self._desk = desk
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, Frames] = {}
        self._stopping = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(lifeline, selectors.EVENT_READ, self.stop)

    def stop(self) -> None:
        """End after the batch that is being done."""
        self._stopping = True

    def serve(self) -> None:
        """Serve until told to stop."""
        wakeup, signalled = socket.socketpair()
        wakeup.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGTERM, self._told)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the gateway, which ends its signer in order
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(64))
        while not self._stopping:
            for key, _ in self._selector.select():
                key.data()

    def _told(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it went away between the two calls
            return
        if peer_uid(connection) != os.geteuid() or len(self._connections) >= _CONNECTIONS:
            connection.close()
            return
        connection.settimeout(_STALLED)
        self._connections[connection] = Frames(MAX_BATCH)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        try:
            received = connection.recv(_READ)
            if not received:
                self._drop(connection)
                return
            for payload in self._connections[connection].feed(received):
                connection.sendall(_encoded(self._desk.answer(decode_batch(payload))))
        except (BadFrame, OSError) as error:
            print(f"signer: a connection was closed: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._connections[connection]
        connection.close()


def peer_uid(connection: socket.socket) -> int:
    """The user who holds the other end of a UNIX socket, as the kernel knows it (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def harden(*, follow_parent: bool) -> None:
    """No core dumps and no reading of this process's memory by others of its user, since it holds keys.

    With `follow_parent` the kernel sends SIGTERM when the parent dies, in whatever way.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        if follow_parent:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _encoded(answers: Answers) -> bytearray:
    try:
        return encode_answers(answers)
    except FrameTooLarge as error:
        no = No(SignerRefusal.UNSUPPORTED, f"the answer is too large: {error}")
        return encode_answers(Answers([Answer(each.id, no) for each in answers.answers]))


def main(folder: str, descriptor: str) -> int:
    """A worker's life: the key-encryption key and PINs from standard input, `ready` on standard output, then asks.

    Gives the exit status: 2, and one sentence on standard error, where the keys cannot be opened.
    """
    harden(follow_parent=True)
    opening = _read_opening(sys.stdin.fileno())
    if opening is None:  # the supervisor went away before it said everything
        return 1
    kek, pins = opening
    try:
        desk = Desk(SoftKeyStore(Path(folder), kek, tokens_of(Path(folder), kek, pins)))
        desk.warm()
    except (KeyStoreError, Refused) as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - a sentence for the operator
        return 2
    with socket.socket(fileno=int(descriptor)) as listener:
        worker = Worker(desk, listener, sys.stdin.fileno())
        os.write(sys.stdout.fileno(), b"ready\n")
        worker.serve()
    return 0


def opening(kek: bytes, pins: dict[str, str]) -> bytes:
    """What a supervisor says to a worker first: the key-encryption key, then the tokens' PINs with their length."""
    encoded = msgspec.msgpack.encode(pins)
    return kek + len(encoded).to_bytes(_LENGTH, "big") + encoded


def _read_opening(descriptor: int) -> tuple[bytes, dict[str, str]] | None:
    kek = _read_exactly(descriptor, KEY_LENGTH)
    length = None if kek is None else _read_exactly(descriptor, _LENGTH)
    pins = None if length is None else _read_exactly(descriptor, int.from_bytes(length, "big"))
    if kek is None or pins is None:
        return None
    return kek, msgspec.msgpack.decode(pins, type=dict[str, str])


def _read_exactly(descriptor: int, length: int) -> bytes | None:
    received = b""
    while len(received) < length:
        more = os.read(descriptor, length - len(received))
        if not more:
            return None
        received += more
    return received
