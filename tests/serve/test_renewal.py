"""The HTTPS listener's own certificate is renewed ahead of its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.serve import ceremony, folder, renewal
from gateway.serve.folder import Folder
from gateway.serve.settings import load


async def renewed_within(data: Path, secret: str, seconds: float) -> int:
    times = 0

    def count() -> None:
        nonlocal times
        times += 1
        scope.cancel()

    settings = load({"data": str(data)}, {}, folder=data.parent)
    with trio.move_on_after(seconds) as scope:
        await renewal.keep_listener_certificate(settings, secret, count)
    return times


async def test_a_certificate_that_ends_soon_is_replaced_with_its_key_and_one_that_does_not_is_kept(
    tmp_path: Path, monkeypatch
) -> None:
    place = Folder(tmp_path / "data")
    folder.make(place)
    secret = ceremony.make_secret(place)
    made = ceremony.first(load({"data": str(place.path)}, {}, folder=tmp_path), secret)
    first = (place.tls / "chain.pem").read_bytes()
    assert await renewed_within(place.path, secret, 0.5) == 0
    assert (place.tls / "chain.pem").read_bytes() == first
    monkeypatch.setattr(renewal, "now", lambda: datetime.now(UTC) + timedelta(days=397 - 59))
    assert await renewed_within(place.path, secret, 30) == 1
    chain = (place.tls / "chain.pem").read_bytes()
    leaf, issuing = x509.load_pem_x509_certificates(chain)
    assert chain != first
    assert issuing == x509.load_pem_x509_certificate(made.issuing.certificate.encode())
    key = load_pem_private_key((place.tls / "key.pem").read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    assert (place.tls / "key.pem").stat().st_mode & 0o777 == 0o600


async def test_a_store_of_keys_that_cannot_be_opened_costs_a_line_in_the_log_and_not_the_gateway(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    place = Folder(tmp_path / "data")
    folder.make(place)
    secret = ceremony.make_secret(place)
    ceremony.first(load({"data": str(place.path)}, {}, folder=tmp_path), secret)
    monkeypatch.setattr(renewal, "now", lambda: datetime.now(UTC) + timedelta(days=397))
    assert await renewed_within(place.path, "another secret", 3) == 0
    assert "not renewed" in caplog.text
