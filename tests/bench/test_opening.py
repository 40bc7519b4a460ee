"""What SCEP servers encrypt to a device is opened, in whichever cipher (RFC 5652, 6; RFC 8894, 3.1): openssl wrote it."""

from __future__ import annotations

import datetime as dt
import subprocess
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.load.conversation import Failed
from bench.load.opening import opened
from tests.doubles.programs import installed

CONTENT = b"certificates" * 7


@pytest.fixture(autouse=True, scope="module")
def openssl() -> None:
    installed("openssl")


@cache
def device(serial: int) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial, now, now + dt.timedelta(days=3650))
    return key, builder.sign(key, hashes.SHA256())


def encrypted(folder: Path, cipher: str, *serials: int, oaep: bool = False) -> bytes:
    recipients = []
    for serial in serials:
        file = folder / f"{serial}.pem"
        file.write_bytes(device(serial)[1].public_bytes(Encoding.PEM))
        recipients += ["-recip", str(file)]
        if oaep:
            recipients += ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"]
    command = ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", cipher, *recipients]
    command += ["-provider", "default", "-provider", "legacy"]
    return subprocess.run(command, input=CONTENT, capture_output=True, check=True).stdout


def read(envelope: bytes, serial: int) -> bytes:
    key, certificate = device(serial)
    return opened(envelope, key, certificate.issuer.public_bytes(), serial)


@pytest.mark.parametrize("cipher", ["-aes-128-cbc", "-aes-192-cbc", "-aes-256-cbc", "-des3", "-des-cbc"])
def test_an_envelope_is_opened_in_the_ciphers_that_servers_use(tmp_path: Path, cipher: str):
    assert read(encrypted(tmp_path, cipher, 1), 1) == CONTENT


def test_a_key_may_be_wrapped_with_oaep(tmp_path: Path):
    assert read(encrypted(tmp_path, "-aes-128-cbc", 1, oaep=True), 1) == CONTENT


def test_the_recipient_is_found_among_others_and_a_lone_one_is_ours_however_it_is_named(tmp_path: Path):
    several = encrypted(tmp_path, "-aes-128-cbc", 2, 1)
    assert read(several, 1) == CONTENT
    key, certificate = device(1)
    alone = encrypted(tmp_path, "-aes-128-cbc", 1)
    assert opened(alone, key, certificate.issuer.public_bytes(), 99) == CONTENT
    with pytest.raises(Failed, match="for somebody else"):
        opened(several, key, certificate.issuer.public_bytes(), 99)


def test_what_cannot_be_opened_says_so(tmp_path: Path):
    with pytest.raises(Failed, match="is not one that is opened here"):
        read(encrypted(tmp_path, "-camellia-128-cbc", 1), 1)
    with pytest.raises(Failed, match="cannot be opened"):
        read(b"nonsense", 1)
    with pytest.raises(Failed, match="cannot be opened"):
        read(encrypted(tmp_path, "-aes-128-cbc", 1)[:-1], 1)
