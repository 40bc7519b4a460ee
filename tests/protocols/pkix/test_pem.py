"""PEM: one way to write, few ways to read (RFC 7468)."""

from __future__ import annotations

import binascii
import contextlib
from collections.abc import Callable

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Malformed
from protocols.pkix import pem
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import request

CSR = request("a.example", common_name="a.example")
TEXT = pem.encode("CERTIFICATE REQUEST", CSR)


def test_another_reader_reads_what_is_written():
    assert x509.load_pem_x509_csr(TEXT) == x509.load_der_x509_csr(CSR)
    lines = TEXT.split(b"\n")
    assert lines[0] == b"-----BEGIN CERTIFICATE REQUEST-----"
    assert lines[-2:] == [b"-----END CERTIFICATE REQUEST-----", b""]
    assert {len(line) for line in lines[1:-3]} == {64}


@pytest.mark.parametrize("octets", range(200))
def test_every_line_but_the_last_is_full_and_none_is_empty(octets: int):
    lines = pem.encode("CERTIFICATE", bytes(octets)).splitlines()[1:-1]
    assert b"".join(lines) == binascii.b2a_base64(bytes(octets), newline=False)
    assert all(len(line) == 64 for line in lines[:-1])
    assert 0 < len(lines[-1]) <= 64 or not octets


@given(st.binary(min_size=1, max_size=300), st.sampled_from([b"\n", b"\r\n"]))
def test_what_was_written_is_read(octets, end):
    text = pem.encode("CERTIFICATE", octets).replace(b"\n", end)
    assert pem.decode(text, (pem.CERTIFICATE,), limit=1000) == (octets,)


def test_the_label_of_old_tools_is_read():
    old = TEXT.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")
    assert pem.decode(old, pem.REQUEST, limit=5000) == (CSR,)


def test_a_chain_is_one_block_after_another():
    chain = pem.encode_certificates((b"one", b"two"))
    assert pem.decode(b"\n" + chain + b"\n", (pem.CERTIFICATE,), limit=5000, count=2) == (b"one", b"two")
    with pytest.raises(Malformed, match="more than 1"):
        pem.decode(chain, (pem.CERTIFICATE,), limit=5000)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"  \n",
        b"nothing",
        b"From: somebody\n" + TEXT,
        TEXT + b"and more",
        TEXT.replace(b"END CERTIFICATE REQUEST", b"END CERTIFICATE"),
        TEXT.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
        TEXT.replace(b"\nMI", b"\n*I"),
        TEXT[:-40],
        b"-----BEGIN CERTIFICATE REQUEST-----\nQQ\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\n\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nProc-Type: 4,ENCRYPTED\n\nQUJD\n-----END CERTIFICATE REQUEST-----\n",
    ],
)
def test_what_is_not_one_such_block_is_malformed(wrong):
    with pytest.raises(Malformed) as one:
        pem.decode(wrong, pem.REQUEST, limit=5000)
    with pytest.raises(Malformed) as other:
        pem.decode_request(wrong, limit=5000)
    assert str(other.value) == str(one.value)


def test_the_size_is_capped_first():
    with pytest.raises(Malformed, match="at most 10"):
        pem.decode(TEXT, pem.REQUEST, limit=10)
    with pytest.raises(Malformed, match="at most 10"):
        pem.decode_request(TEXT, limit=10)


def test_damaged_text_is_read_or_malformed():
    for damaged in mutations(b"pem", 1000, (TEXT,)):
        read = None
        with contextlib.suppress(Malformed):
            read = pem.decode(damaged, pem.REQUEST, limit=5000)[0]
        quick = None
        with contextlib.suppress(Malformed):
            quick = pem.decode_request(damaged, limit=5000)
        assert quick == read


@given(st.lists(st.sampled_from([b"QUJD", b"QQ==", b"QQ", b"=", b"\n", b"\r\n", b" ", b"-", b"*"]), max_size=6))
def test_a_request_is_read_at_once_only_if_it_is_read_step_by_step(parts):
    text = b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"".join(parts) + b"\n-----END CERTIFICATE REQUEST-----\n"

    def told(read: Callable[[], bytes]) -> bytes | str:
        try:
            return read()
        except Malformed as fault:
            return fault.detail

    step_by_step = told(lambda: pem.decode(text, pem.REQUEST, limit=5000)[0])
    assert told(lambda: pem.decode_request(text, limit=5000)) == step_by_step


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \n\n"])
def test_a_request_ends_in_any_way_that_text_does(end):
    assert pem.decode_request(TEXT.rstrip() + end, limit=5000) == CSR
    assert pem.decode_request(TEXT.replace(b"\n", b"\r\n"), limit=5000) == CSR
