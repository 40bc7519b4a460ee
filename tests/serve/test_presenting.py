"""What HTTPS shows: names, renewed files, trust, tickets that outlive a new certificate. With openssl's own client."""

from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from cryptography import x509
from starlette.types import Receive, Scope, Send

from gateway.serve import pairs
from gateway.serve.listener import Door, listen
from gateway.serve.presenting import SESSIONS, Presented
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import load
from gateway.serve.sockets import bind
from tests.doubles.pki import Pki
from tests.doubles.programs import installed, run

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the connection's facts."""
    tls = scope["extensions"]["tls"]
    told = {
        "name": tls["server_name"],
        "leaf": (tls["client_cert_der"] or b"").hex(),
        "chain": [each.hex() for each in tls["client_cert_chain_der"]],
        "unique": tls.get("tls_unique", b"").hex(),
    }
    text = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@dataclass
class House:
    """A listener that shows `presented`."""

    port: int
    presented: Presented
    door: Door

    async def shown(self, client: ssl.SSLContext, name: str) -> x509.Certificate:
        """The certificate for a name, as a client without any doubt sees it."""
        client.check_hostname = False
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        secure = trio.SSLStream(stream, client, server_hostname=name, https_compatible=True)
        async with secure:
            await secure.do_handshake()
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True))

    async def openssl(self, folder: Path, *arguments: object, status: int | None = 0) -> str:
        """What `openssl s_client` says of one request."""
        words = ("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-CAfile", folder / "root.pem")

        def go() -> str:
            ran = run(*words, "-ign_eof", *arguments, folder=folder, given=GET, status=status)
            return ran.output.decode(errors="replace") + ran.said

        return await trio.to_thread.run_sync(go)


@asynccontextmanager
async def house(pki: Pki, folder: Path | None = None) -> AsyncIterator[House]:
    presented = Presented(pki.folder / "server.crt", pki.folder / "server.key", folder, pki.trusted)
    bound = bind("127.0.0.1:0", "--https")
    door = Door(bound[0], 100, presented.context)
    ending = trio.Event()
    settings = load({}, {}, folder=pki.folder)

    def exchanged() -> None:
        door.context = presented.context

    async with trio.open_nursery() as nursery:
        nursery.start_soon(presented.watch, exchanged)
        await nursery.start(listen, tell, settings, [door], ending)
        with trio.fail_after(60):
            yield House(bound[0].getsockname()[1], presented, door)
        ending.set()
        nursery.cancel_scope.cancel()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.leaf("server", "localhost")
    return made


def facts(said: str) -> dict[str, object]:
    line = next(each for each in said.splitlines() if each.startswith('{"name"'))
    found, _ = json.JSONDecoder().raw_decode(line)
    assert isinstance(found, dict)
    return found


async def test_each_name_is_shown_its_own_certificate_and_an_unknown_one_the_default(pki: Pki, tmp_path: Path) -> None:
    """RFC 6066, 3; RFC 6125, 6.4.3: a wildcard stands for one label."""
    more = tmp_path / "more"
    pki.leaf("one", "one.example", "also.example", folder=more)
    pki.leaf("wild", "*.devices.example", folder=more)
    async with house(pki, more) as running:
        for name, expected in [
            ("one.example", "one"),
            ("ALSO.example", "one"),
            ("a.devices.example", "wild"),
            ("a.b.devices.example", "server"),
            ("devices.example", "server"),
            ("localhost", "server"),
            ("elsewhere.example", "server"),
        ]:
            found = await running.shown(pki.client(), name)
            assert found.subject.rfc4514_string() == f"CN={expected}", name


async def test_a_client_that_names_nobody_is_shown_the_default(pki: Pki, tmp_path: Path) -> None:
    installed("openssl")
    pki.leaf("one", "one.example", folder=tmp_path / "more")
    async with house(pki, tmp_path / "more") as running:
        said = await running.openssl(pki.folder, "-noservername")
        assert "CN = server" in said
        assert facts(said)["name"] is None


async def test_rsa_and_ecdsa_are_both_shown_for_one_name_as_the_client_can_verify(pki: Pki, tmp_path: Path) -> None:
    """E11: libest's suites of TLS 1.2, ECDSA and RSA; the default's pair serves its names beside the folder's."""
    installed("openssl")
    pki.leaf("rsa", "localhost", kind="rsa", folder=tmp_path / "more")
    async with house(pki, tmp_path / "more") as running:
        for suite, subject in [
            ("ECDHE-ECDSA-AES128-GCM-SHA256", "server"),
            ("ECDHE-RSA-AES128-GCM-SHA256", "rsa"),
            ("ECDHE-RSA-CHACHA20-POLY1305", "rsa"),
        ]:
            said = await running.openssl(pki.folder, "-servername", "localhost", "-tls1_2", "-cipher", suite)
            assert f"subject=CN = {subject}" in said
            assert f"Cipher    : {suite}" in said


def test_of_two_certificates_of_a_kind_the_one_that_began_last_is_shown(pki: Pki, tmp_path: Path) -> None:
    from datetime import timedelta

    more = tmp_path / "more"
    pki.leaf("a-new", "localhost", folder=more)
    pki.leaf("b-old", "localhost", folder=more, began=timedelta(days=3))
    shown = pairs.read(pki.folder / "server.crt", pki.folder / "server.key", more)
    assert [each.chain for each in shown.group("localhost")] == [(more / "a-new.crt").read_bytes()]
    assert "PRIVATE" not in repr(shown)
    assert shown.group("") == shown.group(None) == (shown.default,)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "one.key").unlink(), r"one\.key: No such file .*; see tls\.folder"),
        (lambda folder: (folder / "one.crt").write_text("x"), r"one\.crt with .*one\.key: .*; see tls\.folder"),
        (lambda folder: (folder / "two.key").replace(folder / "one.key"), r"key values mismatch"),
    ],
)
def test_a_pair_that_does_not_fit_is_one_sentence_that_names_its_file(pki: Pki, tmp_path: Path, damage, sentence):
    more = tmp_path / "more"
    pki.leaf("one", "one.example", folder=more)
    pki.leaf("two", "two.example", folder=more)
    damage(more)
    with pytest.raises(CannotStart, match=sentence):
        Presented(pki.folder / "server.crt", pki.folder / "server.key", more, ())


def test_a_certificate_without_a_name_in_the_folder_and_a_folder_that_is_not_there_are_refused(pki, tmp_path) -> None:
    server = (pki.folder / "server.crt", pki.folder / "server.key")
    with pytest.raises(CannotStart, match=r"none: No such file .*; see tls\.folder"):
        Presented(*server, tmp_path / "none", ())
    pki.leaf("nameless", folder=tmp_path / "more")
    with pytest.raises(CannotStart, match=r"nameless\.crt: it has no DNS name"):
        Presented(*server, tmp_path / "more", ())


async def test_new_files_are_shown_to_new_connections_and_end_none(pki: Pki, tmp_path: Path) -> None:
    async with house(pki, tmp_path) as running:
        first = await running.shown(pki.client(), "localhost")
        stands = await trio.open_tcp_stream("127.0.0.1", running.port)
        async with trio.SSLStream(stands, pki.client(), server_hostname="localhost", https_compatible=True) as old:
            await old.do_handshake()
            second = pki.leaf("server", "localhost")
            pki.leaf("late", "late.example", folder=tmp_path)
            while await running.shown(pki.client(), "localhost") == first:
                await trio.sleep(0.05)
            assert await running.shown(pki.client(), "localhost") == second
            assert (await running.shown(pki.client(), "late.example")).subject.rfc4514_string() == "CN=late"
            await old.send_all(GET)
            assert (await old.receive_some()).startswith(b"HTTP/1.1 200")
        (tmp_path / "late.crt").unlink()
        while (await running.shown(pki.client(), "late.example")) != second:
            await trio.sleep(0.05)


async def test_half_a_pair_keeps_what_was_shown_and_is_told_once(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    chain, key = pki.folder / "server.crt", pki.folder / "server.key"
    with caplog.at_level(logging.INFO, "muster.tls"):
        async with house(pki) as running:
            first = await running.shown(pki.client(), "localhost")
            before = key.read_bytes()
            second = pki.leaf("server", "localhost")
            after = key.read_bytes()
            key.write_bytes(before)  # a chain whose key has not come yet
            while not caplog.records:
                await trio.sleep(0.05)
            await trio.sleep(1.5)
            assert await running.shown(pki.client(), "localhost") == first
            assert [each.levelname for each in caplog.records] == ["WARNING"]
            assert str(chain) in caplog.records[0].cause
            # Whom clients are believed by changes at once all the same.
            running.presented.trust(())
            running.door.context = running.presented.context
            assert running.presented.trusted == frozenset()
            assert running.door.context.verify_mode == ssl.CERT_NONE
            assert await running.shown(pki.client(), "localhost") == first
            key.write_bytes(after)
            while await running.shown(pki.client(), "localhost") != second:
                await trio.sleep(0.05)
            assert running.door.context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_session_resumes_after_a_reload_too_and_the_client_is_still_known(pki: Pki, version: str) -> None:
    """E13; RFC 5077 for TLS 1.2, RFC 8446, 2.2 for TLS 1.3."""
    installed("openssl")
    device = pki.leaf("device")
    async with house(pki) as running:
        client = ("-servername", "localhost", version, "-cert", "device.crt", "-key", "device.key")
        said = await running.openssl(pki.folder, *client, "-sess_out", "session")
        assert "\nNew, TLSv1" in said
        assert len(facts(said)["chain"]) == 2
        again = await running.openssl(pki.folder, *client, "-sess_in", "session", "-sess_out", "session")
        assert "\nReused, TLSv1" in again
        leaf = facts(again)["leaf"]
        assert leaf == facts(said)["leaf"] == device.public_bytes(_der()).hex()
        assert facts(again)["chain"] == [leaf]
        second = pki.leaf("server", "localhost")
        while await running.shown(pki.client(), "localhost") != second:
            await trio.sleep(0.05)
        later = await running.openssl(pki.folder, *client, "-sess_in", "session")
        assert "\nReused, TLSv1" in later
        assert facts(later)["leaf"] == leaf
        # Another trust is another beginning: the ticket of somebody who may not be trusted any more says nothing.
        running.presented.trust(pki.trusted | {pki.root.public_bytes(_der())})
        running.door.context = running.presented.context
        assert "\nNew, TLSv1" in await running.openssl(pki.folder, *client, "-sess_in", "session")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_ticket_says_nothing_once_its_authority_is_not_trusted(pki: Pki, tmp_path: Path, version: str) -> None:
    """Whoever may not come in by a handshake may not by a ticket, although the files are in the midst of a change."""
    installed("openssl")
    pki.leaf("device")
    other = Pki(tmp_path / "other", "other")
    async with house(pki) as running:
        client = ("-servername", "localhost", version, "-cert", "device.crt", "-key", "device.key")
        assert facts(await running.openssl(pki.folder, *client, "-sess_out", "session"))["leaf"]
        (pki.folder / "server.key").unlink()
        running.presented.trust(other.trusted)
        running.door.context = running.presented.context
        said = await running.openssl(pki.folder, *client, "-sess_in", "session", status=None)
        assert "\nReused" not in said
        assert '{"name"' not in said
        assert "alert unknown ca" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_session_resumed_under_another_name_is_the_same_clients(pki: Pki, tmp_path: Path, version: str) -> None:
    """Whom a listener trusts is the same for all its names, so that RFC 6066, 3 (not to resume) protects nothing here.

    OpenSSL tells the name of the session on TLS 1.2, and the one that was asked for on TLS 1.3.
    """
    installed("openssl")
    leaf = pki.leaf("device").public_bytes(_der()).hex()
    pki.leaf("one", "one.example", folder=tmp_path / "more")
    async with house(pki, tmp_path / "more") as running:
        client = (version, "-cert", "device.crt", "-key", "device.key")
        await running.openssl(pki.folder, *client, "-servername", "one.example", "-sess_out", "session")
        said = await running.openssl(pki.folder, *client, "-servername", "localhost", "-sess_in", "session")
        name = "one.example" if version == "-tls1_2" else "localhost"
        assert (facts(said)["name"], facts(said)["leaf"]) == (name, leaf)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_ticket_of_another_worker_means_a_full_handshake_and_no_failure(pki: Pki, version: str) -> None:
    installed("openssl")
    async with house(pki) as one, house(pki) as other:
        client = ("-servername", "localhost", version)
        await one.openssl(pki.folder, *client, "-sess_out", "session")
        said = await other.openssl(pki.folder, *client, "-sess_in", "session")
        assert "\nNew, TLSv1" in said
        assert facts(said)["name"] == "localhost"


async def test_the_context_is_exchanged_before_openssl_remembers_too_many_sessions(pki: Pki, monkeypatch) -> None:
    from gateway.serve import presenting

    assert SESSIONS < 20_480
    monkeypatch.setattr(presenting, "SESSIONS", 0)
    async with house(pki) as running:
        first = running.door.context
        await running.openssl(pki.folder, "-tls1_2", "-no_ticket", "-servername", "localhost")
        while running.door.context is first:
            await trio.sleep(0.05)


async def test_a_name_that_is_not_ascii_ends_its_handshake_without_a_word(pki: Pki, capsys) -> None:
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="abcdefgh.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    async with house(pki) as running:
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
            await stream.send_all(hello.read().replace(b"abcdefgh", b"\xff\xfe\xfd\xfcefgh"))
            answer = b""
            while part := await stream.receive_some():
                answer += part
        assert answer[0] == 21  # an alert (RFC 8446, 5.1)
        assert (await running.shown(pki.client(), "localhost")).subject.rfc4514_string() == "CN=server"
    assert capsys.readouterr().err == ""


async def test_what_nobody_speaks_is_passed_over_in_alpn(pki: Pki) -> None:
    """RFC 7301, 3.2 would end it with an alert, which CPython does not send: HTTP/1.1 is spoken then."""
    client = pki.client()
    client.set_alpn_protocols(["smtp"])
    async with house(pki) as running:
        stream = await trio.open_tcp_stream("127.0.0.1", running.port)
        async with trio.SSLStream(stream, client, server_hostname="localhost", https_compatible=True) as secure:
            await secure.do_handshake()
            assert secure.selected_alpn_protocol() is None
            await secure.send_all(GET)
            assert (await secure.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
async def test_old_versions_are_refused(pki: Pki, version: str) -> None:
    """E10."""
    installed("openssl")
    async with house(pki) as running:
        said = await running.openssl(pki.folder, version, "-cipher", "ALL:@SECLEVEL=0", status=None)
    assert "alert protocol version" in said


async def test_the_end_of_an_answer_is_said_before_the_connection_closes(pki: Pki) -> None:
    """RFC 8446, 6.1: what is cut off can be told from what ends."""
    async with house(pki) as running:

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", running.port)) as plain:
                client = pki.client()
                with client.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as secure:
                    secure.sendall(GET)
                    said = b""
                    while part := secure.recv(65536):
                        said += part
                    return said

        assert (await trio.to_thread.run_sync(talk)).startswith(b"HTTP/1.1 200")


def _der():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER
