"""A gateway that is somebody else's speaks the contract to real workers: what it gets, and everything it does not.

Each thing refused has its own test of the room that refuses it; here the processes are asked, and must outlive it.
"""

import hashlib
import os
import socket
import struct
import time
from contextlib import ExitStack, suppress

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signer.ceremony import DAY
from signer.contract.framing import MAX_BATCH, Frames, decode_answers, encode_batch
from signer.contract.messages import (
    VERSION,
    Ask,
    Batch,
    Certificate,
    GeneralName,
    GenerateKey,
    No,
    OcspEntry,
    RevocationList,
    SignAttributes,
    Signature,
    SignCrl,
    SignOcsp,
    UnwrapKey,
    Unwrapped,
)
from signer.contract.refusal import SignerRefusal
from signer.keystore.softkey import SoftKeyStore, unlock
from tests.signer.kit import SECRET, proof, running_signer
from tests.signer.test_processes import asked, children, connected, live_ask
from tests.signer.test_ra import attributes

MANY = 100_000


@pytest.fixture(scope="module")
def signer(keys_folder):
    """Two real workers. Whatever was tried, the same two serve when the last test is over."""
    with running_signer(keys_folder, "--workers", "2") as started:
        yield started
        assert sorted(children(started.process.pid)) == sorted(started.workers)


@pytest.fixture
def connection(signer):
    """A gateway's connection to the first worker, which answers honest asks before and after."""
    with connected(signer.sockets[0]) as made:
        yield made
    with connected(signer.sockets[0]) as honest:
        assert isinstance(asked(honest, live_ask())[0], Certificate)


@pytest.fixture(scope="module")
def store(keys_folder):
    return SoftKeyStore(keys_folder, unlock(keys_folder, SECRET))


def now() -> int:
    return int(time.time())


def spki_of(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def bent_point() -> bytes:
    """A P-256 key whose point is not on the curve: an implementation that believes it gives its own key away."""
    der = bytearray(spki_of(ec.generate_private_key(ec.SECP256R1())))
    der[-1] ^= 1
    return bytes(der)


def exponent_of_three() -> bytes:
    return spki_of(rsa.generate_private_key(3, 2048))


def authority(**changes: object) -> dict[str, object]:
    names = {"subject": [("2.5.4.3", "Forged CA")], "sans": [], "extended_key_usages": []}
    return {**names, "ca": True, "path_length": 0, "key_usages": ["keyCertSign", "cRLSign"], **changes}


HOST = GeneralName("dns_name", "server.example")
EVERY_USAGE = {"extended_key_usages": ["2.5.29.37.0"]}
RESPONDER = {"extended_key_usages": ["1.3.6.1.5.5.7.3.9"], "sans": []}
REGISTRAR = {"extended_key_usages": ["1.3.6.1.5.5.7.3.28"], "sans": []}

CERTIFICATES = {
    "an authority of a leaf's issuer": (authority, SignerRefusal.CEILING),
    "an authority without a path length": (lambda: authority(path_length=None), SignerRefusal.CEILING),
    "an authority of the root": (lambda: authority(issuer="root", path_length=0), SignerRefusal.CEILING),
    "an authority of the root, too long a path": (
        lambda: authority(issuer="root", path_length=1),
        SignerRefusal.CEILING,
    ),
    "a leaf of the root": (lambda: {"issuer": "root"}, SignerRefusal.CEILING),
    "a leaf that signs certificates": (lambda: {"key_usages": ["keyCertSign"]}, SignerRefusal.LINT),
    "a leaf that signs lists": (lambda: {"key_usages": ["cRLSign"]}, SignerRefusal.LINT),
    "a path length without an authority": (lambda: {"path_length": 0}, SignerRefusal.LINT),
    "beyond the ceiling": (lambda: {"not_after": now() + 1900 * DAY}, SignerRefusal.CEILING),
    "beyond the issuer": (
        lambda: {"not_before": now() + 3640 * DAY, "not_after": now() + 3660 * DAY},
        SignerRefusal.TERM,
    ),
    "before the issuer": (lambda: {"not_before": now() - 30 * DAY}, SignerRefusal.TERM),
    "backwards": (lambda: {"not_after": now() - 3600}, SignerRefusal.LINT),
    "at the end of time": (lambda: {"not_after": 2**62}, SignerRefusal.CEILING),
    "RSA of 1024 bits": (
        lambda: {"spki": spki_of(rsa.generate_private_key(65537, 1024))},
        SignerRefusal.LINT,
    ),
    "RSA with the exponent 3": (lambda: {"spki": exponent_of_three()}, SignerRefusal.LINT),
    "a point beside its curve": (lambda: {"spki": bent_point()}, SignerRefusal.LINT),
    "a curve of 192 bits": (
        lambda: {"spki": spki_of(ec.generate_private_key(ec.SECP192R1()))},
        SignerRefusal.LINT,
    ),
    "no key": (lambda: {"spki": b""}, SignerRefusal.LINT),
    "a megabyte of key": (lambda: {"spki": b"\x30\x83\x10\0\0" + bytes(2**20)}, SignerRefusal.LINT),
    "usages of another kind of key": (lambda: {"key_usages": ["keyEncipherment"]}, SignerRefusal.LINT),
    "no ticket": (lambda: {"ticket": b""}, SignerRefusal.TICKET),
    "a short ticket": (lambda: {"ticket": bytes(15)}, SignerRefusal.TICKET),
    "a ticket that has expired": (lambda: {"deadline": now() - 2}, SignerRefusal.TICKET),
    "a ticket for a year": (lambda: {"deadline": now() + 365 * DAY}, SignerRefusal.TICKET),
    "the serial 0": (lambda: {"serial": bytes(16)}, SignerRefusal.LINT),
    "a negative serial": (lambda: {"serial": b"\x80" + bytes(19)}, SignerRefusal.LINT),
    "a serial of 21 bytes": (lambda: {"serial": b"\x01" + bytes(20)}, SignerRefusal.LINT),
    "a serial that can be guessed": (lambda: {"serial": b"\x01"}, SignerRefusal.LINT),
    "any usage": (lambda: EVERY_USAGE, SignerRefusal.CEILING),
    "an OCSP responder": (lambda: RESPONDER, SignerRefusal.CEILING),
    "a registration authority": (lambda: REGISTRAR, SignerRefusal.CEILING),
    "no proof": (lambda: {"proof": None}, SignerRefusal.PROOF),
    "a proof of another protocol": (lambda: {"proof": proof(protocol="scep")}, SignerRefusal.PROOF),
    "a proof of a method that is closed": (lambda: {"proof": proof(enabled=["rest"])}, SignerRefusal.PROOF),
    "a proof of nothing": (lambda: {"proof": proof(request_hash=b"")}, SignerRefusal.PROOF),
    "an RA as the issuer": (lambda: {"issuer": "issuing-ra"}, SignerRefusal.WRONG_KIND),
    "nobody as the issuer": (lambda: {"issuer": "../unlock-secret"}, SignerRefusal.UNKNOWN_KEY),
    "a name with a zero byte": (lambda: {"sans": [GeneralName("dns_name", "good.example\0.evil")]}, SignerRefusal.LINT),
    "a name of an unknown kind": (lambda: {"sans": [GeneralName("directory", "CN=x")]}, SignerRefusal.LINT),
    "no name at all": (lambda: {"subject": [], "sans": []}, SignerRefusal.LINT),
    "names that are not critical": (lambda: {"subject": []}, SignerRefusal.LINT),
    "an unknown attribute": (lambda: {"subject": [("1.2.3.4", "x")]}, SignerRefusal.LINT),
    "a control character": (lambda: {"subject": [("2.5.4.3", "a\nb")]}, SignerRefusal.LINT),
    "a list in a file": (lambda: {"crl_urls": ["file:///etc/passwd"]}, SignerRefusal.LINT),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_no_worker_signs_a_certificate_that_is(name, connection):
    changes, reason = CERTIFICATES[name]
    made = changes()
    fields = {**{name: getattr(live_ask(), name) for name in ("deadline", "not_before", "not_after")}, **made}
    [outcome] = asked(connection, msgspec.structs.replace(live_ask(), **fields))
    assert isinstance(outcome, No), outcome
    assert outcome.reason is reason, outcome


def test_the_issuer_s_own_key_is_no_subject(connection, store):
    issuing = store.find("issuing")
    [outcome] = asked(connection, live_ask(spki=spki_of(issuing.private_key)))
    assert (type(outcome), outcome.reason) == (No, SignerRefusal.CEILING)


def test_no_signature_is_made_with_sha_1(connection):
    """Neither in a certificate nor in a list; there is no field to ask for it."""
    certificate, crl = asked(connection, live_ask(), SignCrl("issuing", 1, now(), now() + DAY, []))
    assert x509.load_der_x509_certificate(certificate.der).signature_hash_algorithm.name == "sha256"
    assert x509.load_der_x509_crl(crl.der).signature_hash_algorithm.name == "sha256"


def test_one_ticket_and_one_serial_are_one_certificate_at_both_workers(signer, connection):
    with connected(signer.sockets[1]) as other:
        ask = live_ask()
        frame = encode_batch(Batch(VERSION, [Ask(1, ask)] * 20))
        outcomes = []
        for each in (connection, other):
            each.sendall(frame)
        for each in (connection, other):
            outcomes += [answer.outcome for answer in answers_of(each)]
        signed = [each for each in outcomes if isinstance(each, Certificate)]
        assert len(signed) == 1
        assert {each.reason for each in outcomes if isinstance(each, No)} <= {
            SignerRefusal.TICKET,
            SignerRefusal.SERIAL,
        }
        # A new ticket for the same serial; the old ticket for a new serial.
        again, forged = asked(
            other,
            msgspec.structs.replace(ask, ticket=os.urandom(16)),
            msgspec.structs.replace(ask, serial=b"\x01" + os.urandom(15)),
        )
        assert (again.reason, forged.reason) == (SignerRefusal.SERIAL, SignerRefusal.TICKET)


def answers_of(connection: socket.socket):
    frames = Frames(2**24)
    while not (payloads := frames.feed(connection.recv(65536))):
        pass
    return decode_answers(payloads[0]).answers


# Keys of the other kind


def test_a_key_of_one_kind_is_never_used_as_the_other(connection):
    outcomes = asked(
        connection,
        UnwrapKey("issuing", bytes(256), "pkcs1v15", 16),
        UnwrapKey("root", bytes(256), "oaep-sha256", 16),
        SignAttributes("issuing", attributes(), "sha256"),
        SignAttributes("root", attributes(), "sha256"),
        SignCrl("issuing-ra", 1, now(), now() + DAY, []),
        live_ask(issuer="issuing-ra"),
    )
    assert [each.reason for each in outcomes] == [SignerRefusal.WRONG_KIND] * 6


def test_unwrapping_tells_nobody_whether_a_padding_was_right(connection, store):
    """RFC 5652, 6.2.1; S49: Bleichenbacher asks thousands of times, and each answer is a key that was always the same."""
    public_key = store.find("issuing-ra").private_key.public_key()
    good = public_key.encrypt(bytes(range(16)), padding.PKCS1v15())
    bent = [bytes((*good[:-1], good[-1] ^ each)) for each in range(1, 40)]
    verbs = [UnwrapKey("issuing-ra", each, "pkcs1v15", 16) for each in (good, *bent, *bent)]
    first, *rest = asked(connection, *verbs)
    assert first == Unwrapped(bytes(range(16)))
    assert all(isinstance(each, Unwrapped) and len(each.key) == 16 for each in rest)
    assert rest[:39] == rest[39:]
    assert len({each.key for each in rest}) > 30


def test_unwrapping_is_no_decryption_of_anything_else(connection, store):
    """Only a cipher's key comes out: no message, no signature by the back door (raw RSA), no other length."""
    key = store.find("issuing-ra").private_key.public_key()
    message = key.encrypt(b"a secret message that is longer than keys", padding.PKCS1v15())
    [hidden] = asked(connection, UnwrapKey("issuing-ra", message, "pkcs1v15", 32))
    assert isinstance(hidden, Unwrapped)
    assert hidden.key not in b"a secret message that is longer than keys"
    outcomes = asked(
        connection,
        *[UnwrapKey("issuing-ra", message, "pkcs1v15", length) for length in (0, -1, 15, 41, 64, 2**40)],
        UnwrapKey("issuing-ra", message, "raw", 16),
        UnwrapKey("issuing-ra", message, "", 16),
        UnwrapKey("issuing-ra", message[:-1], "pkcs1v15", 16),
        UnwrapKey("issuing-ra", message, "oaep-sha256", 16),
    )
    expected = [SignerRefusal.UNSUPPORTED] * 8 + [SignerRefusal.UNWRAP] * 2
    assert [each.reason for each in outcomes] == expected


def test_an_ra_signs_no_certificate_that_looks_like_attributes(connection, store):
    """A TBSCertificate is a SEQUENCE. Under the tag of a SET, and with a contentType in front, it is still not signed."""
    certificate = store.find("issuing").certificate
    tbs = certificate.tbs_certificate_bytes
    digest = bytes.fromhex("302f06092a864886f70d010904312204") + b"\x20" + hashlib.sha256(tbs).digest()
    outcomes = asked(
        connection,
        *[
            SignAttributes("issuing-ra", each, "sha256")
            for each in (tbs, b"\x31" + tbs[1:], attributes()[:-1], attributes() + tbs, digest, b"", b"\x31\x00")
        ],
    )
    assert [each.reason for each in outcomes] == [SignerRefusal.LINT] * 7
    md5, raw = asked(connection, *[SignAttributes("issuing-ra", attributes(), each) for each in ("md5", "none")])
    assert {md5.reason, raw.reason} == {SignerRefusal.UNSUPPORTED}
    assert isinstance(asked(connection, SignAttributes("issuing-ra", attributes(), "sha256"))[0], Signature)


# Lists and statuses


LISTS = {
    "of an RA": (lambda: SignCrl("issuing-ra", 1, now(), now() + DAY, []), SignerRefusal.WRONG_KIND),
    "of nobody": (lambda: SignCrl("", 1, now(), now() + DAY, []), SignerRefusal.UNKNOWN_KEY),
    "for two years": (lambda: SignCrl("issuing", 1, now(), now() + 730 * DAY, []), SignerRefusal.LINT),
    "that ends before it begins": (lambda: SignCrl("issuing", 1, now(), now() - DAY, []), SignerRefusal.LINT),
    "for the month to come": (
        lambda: SignCrl("issuing", 1, now() + 30 * DAY, now() + 60 * DAY, []),
        SignerRefusal.LINT,
    ),
    "of last week": (lambda: SignCrl("issuing", 1, now() - 7 * DAY, now() + DAY, []), SignerRefusal.LINT),
    "for the month to come, long enough to be made in slices": (
        lambda: SignCrl("issuing", 1, now() + 30 * DAY, now() + 60 * DAY, [], packed=bytes(25_000)),
        SignerRefusal.LINT,
    ),
    "from before all time": (lambda: SignCrl("issuing", 1, -1, now(), []), SignerRefusal.LINT),
    "of a negative number": (lambda: SignCrl("issuing", -1, now(), now() + DAY, []), SignerRefusal.LINT),
    "of the serial 0": (lambda: SignCrl("issuing", 1, now(), now() + DAY, [(bytes(16), now(), 1)]), SignerRefusal.LINT),
    "of a serial twice": (
        lambda: SignCrl("issuing", 1, now(), now() + DAY, [(b"\1", now(), 1)] * 2),
        SignerRefusal.LINT,
    ),
    "of tomorrow's revocations": (
        lambda: SignCrl("issuing", 1, now(), now() + DAY, [(b"\1", now() + 3 * DAY, 1)]),
        SignerRefusal.LINT,
    ),
    "that takes an entry back without being a delta": (
        lambda: SignCrl("issuing", 1, now(), now() + DAY, [(b"\1", now(), 8)]),
        SignerRefusal.LINT,
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_no_worker_signs_a_list(name, connection):
    made, reason = LISTS[name]
    [outcome] = asked(connection, made())
    assert isinstance(outcome, No), outcome
    assert outcome.reason is reason, outcome


STATUSES = {
    "good, of another issuer's certificate": {"name_hash": bytes(20), "key_hash": bytes(20)},
    "of a digest that nobody uses": {"digest": "md5"},
    "of a word of its own": {"status": "fine"},
    "of no serial": {"serial": b""},
}


@pytest.mark.parametrize("name", STATUSES)
def test_no_worker_signs_a_status(name, connection):
    """A responder answers for its issuer alone (RFC 6960, 4.2.2.2), by a key that no gateway names."""
    entry = msgspec.structs.replace(OcspEntry("sha1", b"\x01" * 16, "good"), **STATUSES[name])
    [outcome] = asked(connection, SignOcsp("issuing", now(), now(), now() + DAY, [entry]))
    assert isinstance(outcome, No), outcome
    assert outcome.reason in {SignerRefusal.LINT, SignerRefusal.UNSUPPORTED, SignerRefusal.CEILING}


@pytest.mark.parametrize("issuer", ["issuing-ra", "nobody"])
def test_no_other_key_answers_for_certificates(issuer, connection):
    entry = OcspEntry("sha1", b"\x01" * 16, "good")
    [outcome] = asked(connection, SignOcsp(issuer, now(), now(), now() + DAY, [entry]))
    assert outcome.reason in {SignerRefusal.WRONG_KIND, SignerRefusal.UNKNOWN_KEY}


# The wire


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def batch(*verbs: object, version: object = VERSION) -> bytes:
    return framed(msgspec.msgpack.encode([version, [[n, verb] for n, verb in enumerate(verbs)]]))


GOOD = ["generate-key", "ED25519"]
NOT_THE_CONTRACT = {
    "an unknown verb": batch(["sign-bytes", b"anything"]),
    "a verb of another language": batch({"verb": "generate-key"}),
    "a verb without its fields": batch(["issue-certificate", "issuing"]),
    "a field too many": batch([*GOOD, "and more"]),
    "a good verb beside a bad one": batch(GOOD, ["export-key", "issuing"]),
    "no verb": batch(None),
    "text where a number is meant": framed(msgspec.msgpack.encode(["1", []])),
    "a number of 100 bits": framed(b"\x92\x01\x91\x92\xcf" + b"\xff" * 8 + b"\x92\xacgenerate-key\xa1x")[:-1],
    "text that is not UTF-8": framed(b"\x92\x01\x91\x92\x00\x92\xacgenerate-key\xa2\xff\xfe"),
    "a frame of nothing": framed(b""),
    "a frame of four gigabytes": b"\xff\xff\xff\xff",
    "a frame one byte too large": (MAX_BATCH + 1).to_bytes(4, "big"),
    "an array of four billion": framed(b"\x92\x01\xdd\xff\xff\xff\xff"),
    "arrays in arrays": framed(b"\x91" * 100_000),
    "HTTP": b"POST / HTTP/1.1\r\nHost: signer\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
}


@pytest.mark.parametrize("name", NOT_THE_CONTRACT)
def test_who_breaks_the_contract_loses_the_connection_and_nothing_else(name, signer):
    with connected(signer.sockets[0]) as good, connected(signer.sockets[0]) as bad:
        with_rest(bad, NOT_THE_CONTRACT[name])
        assert isinstance(asked(good, live_ask())[0], Certificate)


def with_rest(connection: socket.socket, octets: bytes) -> None:
    """Sent, and answered by the end of the connection."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=300).map(framed),
        st.binary(max_size=300),
        st.recursive(st.none() | st.integers(-5, 5) | st.text(max_size=9) | st.binary(max_size=9),
                     lambda inner: st.lists(inner, max_size=4), max_leaves=30)
        .map(msgspec.msgpack.encode).map(framed),
    )
)  # fmt: skip
def test_no_bytes_end_a_worker(signer, octets):
    with connected(signer.sockets[0]) as connection:
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    with connected(signer.sockets[0]) as honest:
        assert isinstance(asked(honest, live_ask())[0], Certificate)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_ask_by_ask(version, connection):
    connection.sendall(batch(GOOD, GOOD, version=version))
    assert [each.outcome.reason for each in answers_of(connection)] == [SignerRefusal.UNSUPPORTED] * 2


def test_a_hundred_thousand_asks_in_a_frame_are_answered_one_by_one(signer, connection):
    """D29: what one gateway floods is its own batch; the other worker serves meanwhile."""
    connection.settimeout(60)
    connection.sendall(batch(*[["generate-key", "x"]] * MANY))
    with connected(signer.sockets[1]) as other:
        assert isinstance(asked(other, live_ask())[0], Certificate)
    frames = Frames(2**24)
    while not (payloads := frames.feed(connection.recv(2**20))):
        pass
    answers = decode_answers(payloads[0]).answers
    assert len(answers) == MANY
    assert {each.outcome.reason for each in answers} == {SignerRefusal.UNSUPPORTED}


def test_frames_that_come_together_are_answered_apart_and_in_order(connection):
    connection.sendall(b"".join(bytes(encode_batch(Batch(VERSION, [Ask(n, live_ask())]))) for n in range(7)))
    frames, seen = Frames(2**24), []
    while len(seen) < 7:
        seen += [decode_answers(each).answers for each in frames.feed(connection.recv(65536))]
    assert [[each.id for each in answers] for answers in seen] == [[n] for n in range(7)]
    assert all(isinstance(each.outcome, Certificate) for answers in seen for each in answers)


def test_frames_that_come_a_byte_at_a_time_hold_up_nobody(signer):
    """Sixty-odd connections that never finish; an honest one that was there before is served all the while."""
    frame = bytes(encode_batch(Batch(VERSION, [Ask(1, live_ask())])))
    with connected(signer.sockets[0]) as honest, ExitStack() as held:
        slow = []
        for _ in range(70):  # more than a worker keeps; those beyond are closed when they come
            slow.append(held.enter_context(connected(signer.sockets[0])))
            assert isinstance(asked(honest, live_ask())[0], Certificate)
        for position in range(3):
            for each in slow:
                with suppress(BrokenPipeError, ConnectionResetError):
                    each.sendall(frame[position : position + 1])
            assert isinstance(asked(honest, live_ask())[0], Certificate)
    with connected(signer.sockets[0]) as later:
        assert isinstance(asked(later, live_ask())[0], Certificate)


def test_who_does_not_read_its_answers_is_dropped(signer):
    """Its answers fill the socket; a worker waits five seconds at most, and then serves the others."""
    with connected(signer.sockets[0]) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(batch(*[["generate-key", "x"]] * 40_000))
        with connected(signer.sockets[0]) as honest:
            honest.settimeout(60)
            assert isinstance(asked(honest, live_ask())[0], Certificate)


def test_a_descriptor_that_is_passed_along_goes_nowhere(connection):
    """SCM_RIGHTS would be a way to hand a socket to a worker that can make none."""
    read, write = os.pipe()
    frame = bytes(encode_batch(Batch(VERSION, [Ask(1, GenerateKey("ED25519"))])))
    connection.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", write))])
    os.close(write)
    assert len(answers_of(connection)) == 1
    assert os.read(read, 1) == b""  # nobody holds the other end any more
    os.close(read)


def test_honest_asks_go_on_at_every_worker(signer):
    for path in signer.sockets:
        with connected(path) as connection:
            certificate, crl = asked(connection, live_ask(), SignCrl("issuing", 2, now(), now() + DAY, []))
            assert isinstance(certificate, Certificate)
            assert isinstance(crl, RevocationList)
