"""CRLs and CA certificates, health, and what is at no address (D19; RFC 5280, 4.2.1.13 and 4.2.2.1)."""

import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from cryptography import x509
from trio.testing import MockClock

from gateway.actions.enroll import enroll
from gateway.domain.authority import AuthorityStatus, ListSettings
from gateway.domain.issuance import Issued
from gateway.domain.request import EnrollmentRequest, Proof, ProofKind, Protocol, San, SanType
from gateway.fronts.health import health_routes
from gateway.fronts.publication import publication_routes
from gateway.jobs.publication import keep_published, renew_all
from gateway.outbound.signer import SignerUnreachable
from gateway.store import certificates
from tests.doubles.house import House, open_house
from tests.doubles.issuer import public_key


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, lambda front: [*publication_routes(front), *health_routes(front)]) as house:
        yield house


async def crl(house: House, **how: object) -> x509.CertificateRevocationList:
    answer = await house.ask("GET", "/ca/test-root.crl", **how)
    assert answer.status == 200, answer.text
    assert answer.header("Content-Type") == "application/pkix-crl"
    return x509.load_der_x509_crl(answer.body)


def number(of: x509.CertificateRevocationList) -> int:
    return of.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_authoritys_certificate_is_where_the_leaves_say(house: House, scheme: str):
    answer = await house.ask("GET", "/ca/test-root.crt", scheme=scheme)
    assert answer.status == 200
    assert answer.header("Content-Type") == "application/pkix-cert"
    assert answer.body == house.issuer.certificate


async def test_there_is_a_list_in_force_before_anything_was_revoked(house: House):
    """D19."""
    found = await crl(house, scheme="http")
    assert found.last_update_utc <= house.now < found.next_update_utc
    assert list(found) == []
    root = x509.load_der_x509_certificate(house.issuer.certificate)
    assert found.is_signature_valid(root.public_key())


async def test_a_list_is_signed_once_however_many_ask(house: House):
    async with trio.open_nursery() as nursery:
        numbers: set[int] = set()

        async def once() -> None:
            numbers.add(number(await crl(house)))

        for _ in range(10):
            nursery.start_soon(once)
    assert len(numbers) == 1


async def test_a_list_that_has_run_out_is_never_handed_out(house: House):
    """RFC 5280, 6.3.3: better none than an old one."""
    await crl(house)
    house.now += ListSettings().lifetime + dt.timedelta(seconds=1)
    house.signer.crash = SignerUnreachable("away")
    answer = await house.ask("GET", "/ca/test-root.crl")
    assert answer.status == 503
    assert answer.header("Retry-After")
    house.signer.crash = None
    assert (await crl(house)).next_update_utc > house.now


async def test_the_job_renews_a_list_ahead_of_its_end_with_a_higher_number(house: House):
    """D19; RFC 5280, 5.2.3."""
    first = await crl(house)
    await renew_all(house.resources, house.front.publications)
    assert number(await crl(house)) == number(first)
    house.now += ListSettings().refresh
    await renew_all(house.resources, house.front.publications)
    second = await crl(house)
    assert number(second) > number(first)
    assert second.next_update_utc > first.next_update_utc


async def test_the_number_grows_even_when_the_clock_stands_or_goes_back(house: House):
    """RFC 5280, 5.2.3."""
    first = number(await crl(house))
    await revoke_one(house)
    house.front.publications.rest("authority", 0)
    house.now -= dt.timedelta(hours=1)
    await renew_all(house.resources, house.front.publications)
    assert number(await crl(house)) == first + 1


async def revoke_one(house: House) -> int:
    key = public_key()
    proof = Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "dev1", hashlib.sha256(key.spki).digest())
    request = EnrollmentRequest(proof=proof, key=key, sans=(San(SanType.DNS_NAME, "a.example"),))
    issued = await enroll(house.resources, house.pair, request)
    assert isinstance(issued, Issued)
    await house.store.write(lambda unit: certificates.revoke(unit, issued.certificate_id, reason=1, at=house.now))
    return int(issued.serial, 16)


async def test_a_revocation_is_on_the_next_list_and_the_job_makes_it_at_once(house: House):
    """D19."""
    await crl(house)
    serial = await revoke_one(house)
    house.front.publications.rest("authority", 0)
    await renew_all(house.resources, house.front.publications)
    assert [each.serial_number for each in await crl(house)] == [serial]


async def test_one_authoritys_failure_does_not_end_the_job(
    house: House, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
):
    # A thread may be at work for the store, beside an idle loop: no time goes by meanwhile.
    autojump_clock.autojump_threshold = 0.05
    house.signer.crash = ZeroDivisionError("odd")
    with trio.move_on_after(100):
        await keep_published(house.resources, house.front.publications, glance=30)
    assert 7 <= caplog.text.count("ZeroDivisionError: odd") <= 11  # a pause of ten seconds after each
    house.signer.crash = SignerUnreachable("away")
    house.front.publications.rest("authority", 0)
    await renew_all(house.resources, house.front.publications)
    assert "out of reach" in caplog.text
    house.signer.crash = None
    house.front.publications.rest("authority", 0)
    await renew_all(house.resources, house.front.publications)
    assert house.front.publications.current("authority", house.now) is not None


@pytest.mark.parametrize("target", ["/ca/nothing.crl", "/ca/nothing.crt", "/ca/%2e%2e.crt", "/ca/test-root%00.crl"])
async def test_an_unknown_authority_is_a_404(house: House, target: str):
    assert (await house.ask("GET", target)).status == 404


async def test_an_authority_without_a_certificate_publishes_nothing(house: House):
    authority = replace(house.pair.authority, status=AuthorityStatus.PENDING_CERTIFICATE)
    await house.save(replace(house.pair, authority=authority))
    assert (await house.ask("GET", "/ca/test-root.crl")).status == 404
    await renew_all(house.resources, house.front.publications)
    assert house.front.publications.current("authority", house.now) is None


@pytest.mark.parametrize("target", ["/ca/test-root.crl", "/ca/test-root.crt", "/healthz", "/readyz"])
async def test_only_reading_is_possible(house: House, target: str):
    answer = await house.ask("POST", target)
    assert (answer.status, answer.header("Allow")) == (405, "GET, HEAD")
    head = await house.ask("HEAD", target)
    assert (head.status, head.body) == (200, b"")


async def test_health_says_one_word(house: House):
    for scheme in ("http", "https"):
        assert (await house.ask("GET", "/healthz", scheme=scheme)).text == "alive\n"
        assert (await house.ask("GET", "/readyz", scheme=scheme)).text == "ready\n"


async def test_a_gateway_that_cannot_work_is_alive_and_not_ready(house: House):
    async def no() -> bool:
        return False

    house.set_front(ready=no)
    assert (await house.ask("GET", "/healthz")).status == 200
    answer = await house.ask("GET", "/readyz")
    assert answer.status == 503
    assert answer.header("Retry-After") == "1"


async def test_a_cache_keeps_a_list_ten_minutes_and_never_beyond_its_end(house: House):
    answer = await house.ask("GET", "/ca/test-root.crl")
    assert answer.header("Cache-Control") == "public, max-age=600"
    assert answer.header("Last-Modified") == "Mon, 31 Dec 2029 23:55:00 GMT"
    assert answer.header("Expires") == "Tue, 01 Jan 2030 00:10:00 GMT"
    house.now += ListSettings().lifetime - dt.timedelta(seconds=90)
    assert (await house.ask("GET", "/ca/test-root.crl")).header("Cache-Control") == "public, max-age=90"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_list_that_is_known_is_not_sent_again(house: House, method: str):
    """RFC 9110, 13.1.2 and 13.1.3."""
    first = await house.ask("GET", "/ca/test-root.crl")
    tag, modified = first.header("ETag"), first.header("Last-Modified")
    assert tag
    assert modified
    for headers, status in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f'"other", W/{tag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"of*another"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": "Mon, 31 Dec 2029 23:54:59 GMT"}, 200),
        # When somebody fetched the list before: this one may have been signed since, and says an earlier thisUpdate.
        ({"If-Modified-Since": "Mon, 31 Dec 2029 23:58:00 GMT"}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": "Mon, 31 Dec 2029 23:55:00 -0000"}, 200),
    ):
        answer = await house.ask(method, "/ca/test-root.crl", headers=headers)
        assert (answer.status, answer.header("ETag")) == (status, tag), headers
        assert (answer.body == b"") is (status == 304 or method == "HEAD")
    await revoke_one(house)
    house.front.publications.rest("authority", 0)
    await renew_all(house.resources, house.front.publications)
    assert (await house.ask("GET", "/ca/test-root.crl", headers={"If-None-Match": tag})).status == 200


async def test_a_partition_is_where_its_certificates_say(house: House):
    authority = replace(
        house.pair.authority,
        lists=ListSettings(partitions=2),
        crl_urls=("http://localhost:8080/ca/test-root/{partition}.crl",),
    )
    await house.save(replace(house.pair, authority=authority))
    for part in (0, 1):
        answer = await house.ask("GET", f"/ca/test-root/{part}.crl", scheme="http")
        assert answer.status == 200
        point = x509.load_der_x509_crl(answer.body).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert point.value.full_name[0].value == f"http://localhost:8080/ca/test-root/{part}.crl"
    for wrong in ("2", "00", "01", "-1", "-2", "x", "1x", "%D9%A1", "1" * 30):
        assert (await house.ask("GET", f"/ca/test-root/{wrong}.crl")).status == 404, wrong


async def with_deltas(house: House, partitions: int = 0) -> None:
    url = (
        "http://localhost:8080/ca/test-root/{partition}.crl" if partitions else "http://localhost:8080/ca/test-root.crl"
    )
    lists = ListSettings(deltas=True, partitions=partitions)
    await house.save(replace(house.pair, authority=replace(house.pair.authority, lists=lists, crl_urls=(url,))))
    await renew_all(house.resources, house.front.publications)


@pytest.mark.parametrize("partitions", [0, 2])
async def test_a_delta_is_where_its_list_says(house: House, partitions: int):
    """RFC 5280, 5.2.6."""
    await with_deltas(house, partitions)
    for path in ("/ca/test-root.crl", *(f"/ca/test-root/{part}.crl" for part in range(partitions))):
        complete = x509.load_der_x509_crl((await house.ask("GET", path, scheme="http")).body)
        [point] = complete.extensions.get_extension_for_class(x509.FreshestCRL).value
        [name] = point.full_name or ()
        answer = await house.ask("GET", name.value.removeprefix("http://localhost:8080"), scheme="http")
        assert (answer.status, answer.header("Content-Type")) == (200, "application/pkix-crl")
        delta = x509.load_der_x509_crl(answer.body)
        indicator = delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value
        assert indicator.crl_number == number(complete) < number(delta)
    assert (await house.ask("GET", f"/ca/test-root/{partitions}-delta.crl")).status == 404


async def test_a_cache_keeps_a_delta_a_minute_and_is_told_when_it_is_the_same(house: House):
    await with_deltas(house)
    first = await house.ask("GET", "/ca/test-root-delta.crl")
    tag, modified = first.header("ETag"), first.header("Last-Modified")
    assert tag
    assert modified
    assert first.header("Cache-Control") == "public, max-age=60"
    assert first.header("Expires") == "Tue, 01 Jan 2030 00:01:00 GMT"
    for headers in ({"If-None-Match": tag}, {"If-Modified-Since": modified}):
        answer = await house.ask("GET", "/ca/test-root-delta.crl", headers=headers)
        assert (answer.status, answer.body, answer.header("ETag")) == (304, b"", tag)
    head = await house.ask("HEAD", "/ca/test-root-delta.crl")
    assert (head.status, head.body, head.header("ETag")) == (200, b"", tag)
    assert (await house.ask("POST", "/ca/test-root-delta.crl")).status == 405
    await revoke_one(house)
    house.front.publications.rest("authority", 0)
    await renew_all(house.resources, house.front.publications)
    for headers in ({"If-None-Match": tag}, {"If-Modified-Since": modified}):
        assert (await house.ask("GET", "/ca/test-root-delta.crl", headers=headers)).status == 200
    house.now += dt.timedelta(minutes=59, seconds=40)
    answer = await house.ask("GET", "/ca/test-root-delta.crl")
    assert answer.header("Cache-Control") == "public, max-age=20"


async def test_a_delta_that_has_run_out_is_never_handed_out(house: House):
    """RFC 5280, 6.3.3: better none than an old one."""
    await with_deltas(house)
    house.now += ListSettings().delta_lifetime + dt.timedelta(seconds=1)
    house.signer.crash = SignerUnreachable("away")
    assert (await house.ask("GET", "/ca/test-root-delta.crl")).status == 503
    house.signer.crash = None
    assert (await house.ask("GET", "/ca/test-root-delta.crl")).status == 200


async def test_an_authority_without_deltas_has_none_anywhere(house: House):
    await crl(house)
    for path in ("/ca/test-root-delta.crl", "/ca/test-root/0-delta.crl", "/ca/other-delta.crl", "/ca/-delta.crl"):
        assert (await house.ask("GET", path)).status == 404, path
