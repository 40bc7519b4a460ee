"""The issuance journal: what a worker signs is written down before it leaves, and whatever is changed is named."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signer.contract.messages import VERSION, Ask, Batch, Certificate, No, SignCrl, UnwrapKey
from signer.contract.refusal import SignerRefusal
from signer.desk import Desk
from signer.issuance.refused import Refused
from signer.issuance.ticket import Tickets, claim_of
from signer.journal import entry
from signer.journal.claims import NAME, OLDER, SIZE
from signer.journal.entry import CEREMONY, ISSUED, LISTED, Signed
from signer.journal.failed import JournalFailed
from signer.journal.files import file_name, numbers
from signer.journal.journal import Journal
from signer.journal.reading import Fault, Note, Written, begun, follow
from tests.signer.kit import NOW, SECRET, good_ask, issuing, journal, memory_store, running_signer
from tests.signer.test_processes import asked, connected, live_ask

KEY = bytes(32)
DER = issuing().certificate.public_bytes(Encoding.DER)


def answers(desk: Desk, *verbs):
    return [
        each.outcome for each in desk.answer(Batch(VERSION, [Ask(n, verb) for n, verb in enumerate(verbs)])).answers
    ]


def found(folder: Path, kind: type, key: bytes = KEY) -> list:
    return [each for each in follow(folder, key) if isinstance(each, kind)]


def signed(number: int) -> Signed:
    return Signed(CEREMONY, "issuing", number, DER, asked=bytes(32))


def claim(number: int, ticket: bytes | None = None):
    return claim_of("issuing", number.to_bytes(16, "big"), ticket or os.urandom(16), NOW + 60)


def filled(folder: Path, *sizes: int, orderly: bool = True) -> None:
    """A journal of as many files, with so many writes in each, one entry a write."""
    number = 0
    for size in sizes:
        one = journal(folder)
        for _ in range(size):
            number += 1
            one.record(signed(number))
            one.write()
        if orderly:
            one.close()
        else:
            os.close(one._file)


def serials(folder: Path) -> list[int]:
    return [int(each.entry.serial, 16) for each in found(folder, Written)]


# What is written


def test_what_a_desk_signs_is_in_the_journal_and_what_it_refuses_is_not(tmp_path):
    desk = Desk(memory_store(), journal(tmp_path), now=lambda: NOW)
    ask = good_ask()
    certificate, crl, unwrapped, refused = answers(
        desk, ask, SignCrl("issuing", 7, NOW, NOW + 60, []), UnwrapKey("issuing-ra", b"", "x", 16), good_ask(serial=b"")
    )
    assert isinstance(certificate, Certificate)
    assert (type(unwrapped), type(refused)) == (No, No)
    one, other = [each.entry for each in found(tmp_path, Written)]
    assert (one.verb, one.issuer, one.serial) == (ISSUED, "issuing", f"{int.from_bytes(ask.serial, 'big'):x}")
    assert (other.verb, other.serial, other.ticket) == (LISTED, "7", "")
    assert one.request == ask.proof.request_hash.hex()
    made, revocations = x509.load_der_x509_certificate(certificate.der), x509.load_der_x509_crl(crl.der)
    assert one.tbs == sha256(made.tbs_certificate_bytes).hexdigest()
    assert other.tbs == sha256(revocations.tbs_certlist_bytes).hexdigest()
    assert ask.ticket.hex() != one.ticket
    assert len(one.asked) == 64


def test_an_entry_is_there_before_its_answer_leaves(tmp_path):
    """The write happens inside of `answer`: at its end another reader sees it, and a killed worker has lost nothing."""
    desk = Desk(memory_store(), journal(tmp_path), now=lambda: NOW)
    for count in range(1, 4):
        answers(desk, good_ask())
        assert len(found(tmp_path, Written)) == count


def test_a_batch_is_one_line_and_a_long_one_is_several(tmp_path):
    one = journal(tmp_path)
    for number in range(entry.TOGETHER + 1):
        one.record(signed(number))
    one.write()
    [file] = numbers(tmp_path)
    lines = (tmp_path / file_name(file)).read_bytes().splitlines()
    assert len(lines) == 3  # a heading and two batches
    assert serials(tmp_path) == list(range(entry.TOGETHER + 1))


def test_a_full_file_is_followed_by_another(tmp_path):
    one = journal(tmp_path, full=1000)
    for number in range(20):
        one.record(signed(number))
        one.write()
    one.close()
    assert len(numbers(tmp_path)) > 2
    assert serials(tmp_path) == list(range(20))
    assert found(tmp_path, Fault) == []


def test_several_workers_write_side_by_side_and_one_story_is_told(tmp_path):
    several = [journal(tmp_path) for _ in range(3)]
    for number in range(30):
        several[number % 3].record(signed(number))
        several[number % 3].write()
    assert sorted(serials(tmp_path)) == list(range(30))
    assert found(tmp_path, Fault | Note) == []
    several[0].close()
    late = journal(tmp_path)
    late.record(signed(99))
    late.write()
    assert len(serials(tmp_path)) == 31
    assert found(tmp_path, Fault | Note) == []
    assert begun(tmp_path, KEY) == NOW


def test_nothing_is_forged_without_the_key(tmp_path):
    filled(tmp_path, 2)
    assert len(found(tmp_path, Fault, key=b"k" * 32)) == 1
    forged = tmp_path / "forged"
    other = Journal(forged, b"k" * 32, now=lambda: NOW)
    other.claim([])
    other.close()
    shutil.copy(forged / file_name(1), tmp_path / file_name(2))
    [fault] = found(tmp_path, Fault)
    assert file_name(2) in fault.sentence


# What is changed afterwards


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Three files of a few entries; the last one tells what was in the two before it."""
    folder = tmp_path_factory.mktemp("journal")
    filled(folder, 4, 3, 5)
    return folder


CHANGES = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(three: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(three, folder)
    return folder


@CHANGES
@given(file=st.integers(1, 3), place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_named(three, tmp_path, file, place, bit):
    folder = changed(three, tmp_path)
    path = folder / file_name(file)
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    if found(folder, Fault):
        assert any(path.name in each.sentence for each in found(folder, Fault))
    else:  # the last line of the newest file became one that was cut short
        assert (file, place) == (3, len(content) - 1)
        assert serials(folder) == list(range(1, 13))


@CHANGES
@given(file=st.integers(1, 3), length=st.integers(0, 10**6))
def test_a_truncation_is_named_or_is_the_newest_file_s_end(three, tmp_path, file, length):
    folder = changed(three, tmp_path)
    path = folder / file_name(file)
    content = path.read_bytes()
    length %= len(content)
    path.write_bytes(content[:length])
    if file < 3:
        assert any("cut" in each.sentence or path.name in each.sentence for each in found(folder, Fault))
    else:
        assert found(folder, Fault) == []
        assert serials(folder) == list(range(1, 13))[: len(serials(folder))]


@CHANGES
@given(file=st.integers(1, 3), which=st.integers(0, 5), change=st.sampled_from(["remove", "double", "swap", "move"]))
def test_a_line_that_is_removed_doubled_or_moved_is_named(three, tmp_path, file, which, change):
    folder = changed(three, tmp_path)
    path = folder / file_name(file)
    lines = path.read_bytes().splitlines(keepends=True)
    which %= len(lines) - 1
    if change == "remove":
        del lines[which]
    elif change == "double":
        lines.insert(which, lines[which])
    elif change == "swap":
        lines[which], lines[which + 1] = lines[which + 1], lines[which]
    else:
        other = folder / file_name(file % 3 + 1)
        other.write_bytes(other.read_bytes() + lines[which])
        path = other
    path.write_bytes(b"".join(lines)) if change != "move" else None
    assert any(path.name in each.sentence for each in found(folder, Fault))


@pytest.mark.parametrize("file", [1, 2])
def test_a_file_that_is_removed_is_named(three, tmp_path, file):
    folder = changed(three, tmp_path)
    (folder / file_name(file)).unlink()
    assert any(f"{file_name(file)} of the journal is gone" in each.sentence for each in found(folder, Fault))


def test_files_that_change_places_are_named(three, tmp_path):
    folder = changed(three, tmp_path)
    (folder / file_name(1)).rename(folder / "aside")
    (folder / file_name(2)).rename(folder / file_name(1))
    (folder / "aside").rename(folder / file_name(2))
    assert {file_name(1), file_name(2)} <= {each.sentence.split()[0] for each in found(folder, Fault)}


@CHANGES
@given(content=st.binary(max_size=300))
def test_rubbish_is_named_and_never_an_exception(three, tmp_path, content):
    folder = changed(three, tmp_path)
    (folder / file_name(4)).write_bytes(content)
    told = found(folder, Fault | Note)
    assert len(told) == 1
    assert file_name(4) in told[0].sentence
    with pytest.raises(JournalFailed):
        list(follow(folder / "nowhere", KEY))


def test_a_line_that_a_crash_cut_short_is_understood(three, tmp_path):
    folder = changed(three, tmp_path)
    path = folder / file_name(3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:50])
    assert found(folder, Fault) == []
    [note] = found(folder, Note)
    assert "cut short" in note.sentence
    filled(folder, 1)  # the next worker's heading tells what was there
    assert found(folder, Fault) == []
    path.write_bytes(b"".join(lines[:-3]))
    assert len(found(folder, Fault)) == 1


# Once, whoever asks


def test_two_workers_of_one_store_use_a_ticket_and_a_serial_up_once(tmp_path):
    one, other = (Desk(memory_store(), journal(tmp_path), now=lambda: NOW) for _ in range(2))
    ask = good_ask()
    [first] = answers(one, ask)
    assert isinstance(first, Certificate)
    same, ticket, serial = answers(other, ask, good_ask(ticket=ask.ticket), good_ask(serial=ask.serial))
    assert [same.reason, ticket.reason, serial.reason] == ["ticket", "ticket", "serial"]
    again, older = answers(Desk(memory_store(), journal(tmp_path), now=lambda: NOW), good_ask(serial=ask.serial), ask)
    assert [again.reason, older.reason] == ["serial", "ticket"]


def test_claims_are_shared_over_many_generations_and_their_files_stay_small(tmp_path):
    several = [journal(tmp_path, generation=10) for _ in range(3)]
    for number in range(1, 200):
        assert several[number % 2].claim([claim(number)]) == [None]
        [refused] = several[(number + 1) % 2].claim([claim(number)])
        assert refused.reason is SignerRefusal.SERIAL
    assert (tmp_path / NAME).stat().st_size <= 12 * SIZE
    assert (tmp_path / OLDER).stat().st_size <= 12 * SIZE
    new = journal(tmp_path, generation=10)
    for each in (several[2], new):  # one that slept all the while, and one that knows the files alone
        assert all(isinstance(refused, Refused) for refused in each.claim([claim(n) for n in range(190, 200)]))
    assert new.claim([claim(1)]) == [None]  # memory is bounded


def test_claims_that_were_cut_short_by_a_crash_are_dropped(tmp_path):
    one = journal(tmp_path)
    one.claim([claim(1)])
    with (tmp_path / NAME).open("ab") as file:
        file.write(bytes(SIZE - 1))
    assert one.claim([claim(2)]) == [None]
    assert (tmp_path / NAME).stat().st_size == 3 * SIZE
    [refused, free] = journal(tmp_path).claim([claim(1), claim(3)])
    assert (refused.reason, free) == (SignerRefusal.SERIAL, None)


def test_a_full_file_of_claims_whose_successor_was_never_begun_is_read_once_and_followed(tmp_path):
    """A worker that is killed between the two renames, or finds no room for the second, leaves one file by two names."""
    one = journal(tmp_path, generation=10)
    for number in range(1, 5):
        one.claim([claim(number)])
    os.link(tmp_path / NAME, tmp_path / OLDER)
    for number, each in enumerate((one, journal(tmp_path, generation=10)), 100):
        refused, free = each.claim([claim(4), claim(number)])
        assert (refused.reason, free) == (SignerRefusal.SERIAL, None)
    for number in range(5, 30):
        assert one.claim([claim(number)]) == [None]
    [refused] = journal(tmp_path, generation=10).claim([claim(29)])
    assert refused.reason is SignerRefusal.SERIAL


@pytest.mark.parametrize("harm", ["removed", "cut", "exchanged", "an older one", "the folder"])
def test_claims_that_somebody_changed_end_all_signing(tmp_path, harm):
    folder = tmp_path / "journal"
    desk = Desk(memory_store(), journal(folder), now=lambda: NOW)
    before = (folder / NAME).read_bytes() if harm == "an older one" else b""
    answers(desk, good_ask())
    if harm == "removed":
        (folder / NAME).unlink()
    elif harm == "cut":
        os.truncate(folder / NAME, SIZE)
    elif harm == "the folder":
        folder.rename(tmp_path / "away")
    else:
        content = before or os.urandom(3 * SIZE)
        (folder / "new").write_bytes(content)
        (folder / "new").replace(folder / NAME)
    [no] = answers(desk, good_ask())
    assert (type(no), no.reason) == (No, SignerRefusal.JOURNAL)


def test_claims_that_were_removed_between_two_starts_are_made_again_from_the_journal(tmp_path):
    """P9: whoever removes one file revives no serial that was signed, and no ticket that could still be good."""
    one = journal(tmp_path)
    desk = Desk(memory_store(), one, now=lambda: NOW)
    asks = [good_ask() for _ in range(3)]
    assert [type(each) for each in answers(desk, *asks)] == [Certificate] * 3
    one.close()
    two = journal(tmp_path)
    last = good_ask()
    answers(Desk(memory_store(), two, now=lambda: NOW), last)
    os.close(two._file)  # a worker that was killed
    (tmp_path / NAME).unlink()
    again = Desk(memory_store(), journal(tmp_path), now=lambda: NOW)
    for ask in (*asks, last):
        [no] = answers(again, ask)
        assert no.reason is SignerRefusal.TICKET
        [no] = answers(again, msgspec.structs.replace(ask, ticket=os.urandom(16)))
        assert no.reason is SignerRefusal.SERIAL
    [free] = answers(again, good_ask())
    assert isinstance(free, Certificate)


def test_claims_that_are_made_again_are_bounded_and_the_latest_are_kept(tmp_path):
    filled(tmp_path, 3, 3, 3)
    (tmp_path / NAME).unlink()
    first, late = journal(tmp_path, generation=2).claim([claim(1), claim(9)])
    assert first is None  # so old that it would have been forgotten anyway
    assert late.reason is SignerRefusal.SERIAL
    assert (tmp_path / NAME).stat().st_size <= SIZE * 9


def test_a_journal_that_somebody_changed_gives_what_is_proved_before_that(tmp_path):
    filled(tmp_path, 4)
    path = tmp_path / file_name(1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"serial":"3"', b'"serial":"f"')
    path.write_bytes(b"".join(lines))
    (tmp_path / NAME).unlink()
    proved, behind = journal(tmp_path).claim([claim(2), claim(4)])
    assert (proved.reason, behind) == (SignerRefusal.SERIAL, None)
    assert [each for each in follow(tmp_path, KEY) if isinstance(each, Fault)]


def test_damaged_claims_are_a_sentence_at_the_start_and_what_it_advises_helps(tmp_path):
    one = journal(tmp_path, generation=2)
    for number in range(1, 6):
        one.claim([claim(number)])
    one.close()
    (tmp_path / NAME).write_bytes(b"x" * SIZE)
    with pytest.raises(JournalFailed, match="damaged; move it away"):
        journal(tmp_path, generation=2)
    (tmp_path / NAME).rename(tmp_path / "away")
    refused, free = journal(tmp_path, generation=2).claim([claim(4), claim(9)])
    assert (refused.reason, free) == (SignerRefusal.SERIAL, None)


def test_what_another_worker_took_and_what_has_expired_meanwhile_is_remembered_as_far_as_it_matters():
    tickets = Tickets()
    tickets.spend(claim(1), now=NOW)
    late = claim_of("issuing", b"\x09", os.urandom(16), NOW - 1)
    tickets.remember(late.ticket, late.serial, late.deadline)
    assert len(tickets) == 1  # the ticket has expired by itself, its serial counts
    with pytest.raises(Refused, match="has been signed"):
        tickets.spend(claim_of("issuing", b"\x09", os.urandom(16), NOW + 5), now=NOW)
    again = claim(2)
    for _ in range(2):
        tickets.remember(again.ticket, again.serial, again.deadline)
    assert len(tickets) == 2


def test_tickets_that_are_outstanding_are_bounded():
    tickets = Tickets(outstanding=3)
    for number in range(3):
        tickets.spend(claim(number), now=NOW)
    with pytest.raises(Refused, match="more tickets were spent"):
        tickets.spend(claim(9), now=NOW)
    tickets.spend(claim_of("issuing", b"\x09", os.urandom(16), NOW + 90), now=NOW + 61)


@pytest.mark.parametrize("deadline", [-1, 1 << 63])
def test_a_deadline_that_fits_into_no_claim_is_refused(deadline):
    with pytest.raises(Refused, match="impossible"):
        claim_of("issuing", b"\x01", bytes(16), deadline)


# A disk that is full


@pytest.fixture
def full():
    """A limit on the size of files, as a full disk is: a write past it is cut short or fails (setrlimit(2))."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("room", [0, 10, 100, 300])
def test_a_full_disk_refuses_and_recovers_and_nothing_leaves_unrecorded(tmp_path, full, room):
    desk = Desk(memory_store(), journal(tmp_path), now=lambda: NOW)
    answers(desk, *[good_ask() for _ in range(3)])
    size = (tmp_path / file_name(1)).stat().st_size
    full(size + room)
    wrapped, *rest = answers(
        desk, UnwrapKey("issuing", b"", "x", 16), good_ask(), SignCrl("issuing", 1, NOW, NOW + 9, [])
    )
    assert wrapped.reason is SignerRefusal.WRONG_KIND
    assert [each.reason for each in rest] == [SignerRefusal.JOURNAL] * 2
    [still] = answers(desk, good_ask())
    assert still.reason is SignerRefusal.JOURNAL
    full(resource.RLIM_INFINITY)
    [good] = answers(desk, good_ask())
    assert isinstance(good, Certificate)
    assert found(tmp_path, Fault | Note) == []
    entries = found(tmp_path, Written)
    assert len(entries) == 6  # three, two that were signed and never handed out, and the last: the one between was not


def test_claims_that_do_not_fit_are_not_signed(tmp_path, full):
    desk = Desk(memory_store(), journal(tmp_path), now=lambda: NOW)
    full(SIZE + 10)
    ask = good_ask()
    [no] = answers(desk, ask)
    assert no.reason is SignerRefusal.JOURNAL
    full(resource.RLIM_INFINITY)
    assert found(tmp_path, Written) == []
    [good] = answers(desk, good_ask())
    assert isinstance(good, Certificate)
    assert (tmp_path / NAME).stat().st_size == 2 * SIZE


def test_a_journal_that_cannot_be_begun_is_a_sentence(tmp_path, full):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalFailed, match="cannot be made"):
        journal(tmp_path / "file" / "journal")
    full(0)
    with pytest.raises(JournalFailed):
        journal(tmp_path / "new")


# Real workers


@pytest.fixture
def keys(keys_folder, tmp_path) -> Path:
    shutil.copytree(keys_folder, tmp_path / "keys", ignore=shutil.ignore_patterns("journal"))
    return tmp_path / "keys"


def shown(keys: Path) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "signer", "journal", "--keys", str(keys)]
    return subprocess.run(command, input=SECRET + b"\n", capture_output=True, check=False)


def test_a_gateway_that_asks_two_workers_at_once_and_after_a_restart_gets_one_certificate(keys):
    """A compromised gateway: the same serial, and the same ticket, at both."""
    asks = [live_ask() for _ in range(20)]
    asks += [live_ask(ticket=each.ticket) for each in asks[:10]] + [live_ask(serial=each.serial) for each in asks[10:]]
    certificates: list[Certificate] = []

    def ask(path: str) -> None:
        with connected(path) as connection:
            for each in asks:
                certificates.extend(x for x in asked(connection, each, each) if isinstance(x, Certificate))

    for expected in (20, 20):
        with running_signer(keys, "--workers", "2") as signer, ThreadPoolExecutor() as pool:
            list(pool.map(ask, signer.sockets * 2))
        assert len(certificates) == expected
    done = shown(keys)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(b'"type":"entry"') == 20


def test_a_worker_that_is_killed_leaves_all_that_it_answered_in_the_journal(keys):
    certificates = 0
    with running_signer(keys) as signer:
        with connected(signer.sockets[0]) as connection:
            for _ in range(5):
                certificates += len(asked(connection, *[live_ask() for _ in range(5)]))
            os.kill(signer.workers[0], signal.SIGKILL)
        with connected(signer.sockets[0]) as connection:
            certificates += len(asked(connection, live_ask()))
        beside = shown(keys)  # while the worker lives
    after = shown(keys)
    assert beside.returncode == after.returncode == 0
    assert beside.stdout.count(b'"type":"entry"') == after.stdout.count(b'"type":"entry"') == certificates == 26


def test_the_program_says_what_is_wrong_and_needs_the_secret(keys, tmp_path):
    empty = shown(keys)
    assert (empty.returncode, empty.stdout) == (0, b'{"type":"end","entries":0,"faults":0,"begun":null}\n')
    (keys / "journal").mkdir()
    (keys / "journal" / file_name(1)).write_bytes(b"{}\n")
    assert shown(keys).returncode == 1
    nowhere = shown(tmp_path / "nowhere")
    assert (nowhere.returncode, nowhere.stderr.count(b"\n")) == (2, 1)
