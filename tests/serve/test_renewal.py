"""The HTTPS listener's own certificate is renewed ahead of its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus
from gateway.serve import ceremony, folder, parent, renewal
from gateway.serve.folder import Folder
from gateway.serve.renewal import listener_issuer
from gateway.serve.settings import load
from gateway.store.catalogue import Catalogue


async def renewed_within(data: Path, secret: str, seconds: float, external_url: str = "") -> int:
    times = 0

    async def renew(issuer: str) -> None:
        nonlocal times
        if await parent.renew(settings, secret, issuer):
            times += 1
            scope.cancel()

    settings = load({"data": str(data), "external-url": external_url}, {}, folder=data.parent)
    with trio.move_on_after(seconds) as scope:
        await renewal.keep_listener_certificate(settings, lambda: renewal.ISSUING, renew)
    return times


async def test_a_certificate_that_ends_soon_is_replaced_with_its_key_and_one_that_does_not_is_kept(
    tmp_path: Path, monkeypatch
) -> None:
    place = Folder(tmp_path / "data")
    folder.make(place)
    secret = ceremony.make_secret(place)
    made = ceremony.first(load({"data": str(place.path)}, {}, folder=tmp_path), secret, "http://pki.example")
    first = (place.tls / "chain.pem").read_bytes()
    assert await renewed_within(place.path, secret, 0.5) == 0
    assert (place.tls / "chain.pem").read_bytes() == first
    monkeypatch.setattr(renewal, "now", lambda: datetime.now(UTC) + timedelta(days=397 - 59))
    assert await renewed_within(place.path, secret, 90) == 1
    chain = (place.tls / "chain.pem").read_bytes()
    leaf, issuing = x509.load_pem_x509_certificates(chain)
    assert chain != first
    assert issuing == x509.load_pem_x509_certificate(made.issuing.certificate.encode())
    key = load_pem_private_key((place.tls / "key.pem").read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    assert (place.tls / "key.pem").stat().st_mode & 0o777 == 0o600


async def test_a_certificate_that_lacks_a_name_by_which_clients_come_is_replaced(tmp_path: Path) -> None:
    place = Folder(tmp_path / "data")
    folder.make(place)
    secret = ceremony.make_secret(place)
    ceremony.first(load({"data": str(place.path)}, {}, folder=tmp_path), secret, "http://pki.example")
    for url, times in (
        ("https://PKI.example.com", 1),
        ("https://pki.example.com:8443", 0),
        ("https://[2001:DB8:0::1]/x", 1),
        ("https://[2001:db8::1]", 0),
    ):
        assert await renewed_within(place.path, secret, 90 if times else 0.5, url) == times, url
    leaf = x509.load_pem_x509_certificate((place.tls / "chain.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost"} < set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1", "2001:db8::1"} == set(map(str, names.get_values_for_type(x509.IPAddress)))


async def test_a_store_of_keys_that_cannot_be_opened_costs_a_line_in_the_log_and_not_the_gateway(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    place = Folder(tmp_path / "data")
    folder.make(place)
    secret = ceremony.make_secret(place)
    ceremony.first(load({"data": str(place.path)}, {}, folder=tmp_path), secret, "http://pki.example")
    monkeypatch.setattr(renewal, "now", lambda: datetime.now(UTC) + timedelta(days=397))
    async with trio.open_nursery() as nursery:
        times: list[int] = []

        async def look() -> None:
            times.append(await renewed_within(place.path, "another secret", 90))

        nursery.start_soon(look)
        while "not renewed" not in caplog.text and not times:
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert times == []
    assert "not renewed" in caplog.text


def named(identity: str, name: str, algorithm: str = "EC_prime256v1", successor: str | None = None) -> Authority:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    active = AuthorityStatus.ACTIVE
    one = Authority(identity, name, AuthorityKind.INTERMEDIATE, active, name, f"CN={name}", (b"",), algorithm, at, at)
    return replace(one, successor_id=successor)


def known(*authorities: Authority) -> Catalogue:
    return Catalogue(1, authorities, (), (), (), ())


def test_it_is_issued_by_who_took_the_issuing_authoritys_place_unless_no_tls_client_would_understand() -> None:
    other = named("2", "devices")
    assert listener_issuer(known(named("1", "issuing"), other)) == "issuing"
    second = named("3", "issuing-g2")
    assert listener_issuer(known(named("1", "issuing", successor="3"), other, second)) == "issuing-g2"
    quantum = named("3", "issuing-g2", "ML-DSA-65")
    assert listener_issuer(known(named("1", "issuing", successor="3"), other, quantum)) == "issuing"
