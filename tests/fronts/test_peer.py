"""Facts of the connection, and paths that mean one thing only."""

import pytest

from gateway.fronts.peer import peer, plain_path


def scope(path: str = "/", raw: bytes | None = None, **changes: object) -> dict[str, object]:
    return {
        "type": "http",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode() if raw is None else raw,
        "headers": [],
        "client": ("192.0.2.1", 1),
        "extensions": {},
        **changes,
    }


def test_the_certificate_comes_from_the_handshake():
    facts = peer(scope(extensions={"tls": {"client_cert_der": b"der"}}), bytes)
    assert facts.certificate == b"der"
    assert facts.secure
    assert facts.address == "192.0.2.1"


def test_no_header_can_bring_a_certificate_an_address_or_a_scheme():
    """E22: what a proxy would send is worth nothing from a peer."""
    headers = [
        (b"client-cert", b":MIIB:"),
        (b"x-ssl-client-cert", b"MIIB"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"for=10.0.0.1;proto=https"),
    ]
    facts = peer(scope(headers=headers, scheme="http"), bytes)
    assert facts.certificate is None
    assert facts.address == "192.0.2.1"
    assert not facts.secure


def test_a_peer_without_an_address_or_tls_facts_is_nobody():
    facts = peer(scope(client=None, extensions=None), bytes)
    assert (facts.address, facts.certificate) == ("", None)


def test_a_request_is_named_by_the_listener_or_by_the_dice():
    assert peer(scope(request_id="r-1"), bytes).id == "r-1"
    assert peer(scope(), lambda count: b"\x01" * count).id == "01" * 8


@pytest.mark.parametrize(
    "raw",
    [b"/est/a/b/../c", b"/est/./b", b"/est/a%2Fb", b"/est/a%2fb/c", b"/est/a%00", b"/a%5cb", b"/%252e/", b"/.."],
)
def test_a_path_that_another_reader_may_take_otherwise_is_refused(raw: bytes):
    """E7."""
    from urllib.parse import unquote_to_bytes

    assert not plain_path(scope(unquote_to_bytes(raw).decode(), raw))


@pytest.mark.parametrize("path", ["/est/a/b\0", "/a\\b", "/a/%2e%2e/b".replace("%2e", ".")])
def test_the_same_holds_where_the_listener_gives_no_raw_path(path: str):
    assert not plain_path(scope(path, b""))


@pytest.mark.parametrize("raw", [b"/est/demo/tls-server/cacerts", b"/.well-known/est/demo.device/cacerts", b"/d%65mo"])
def test_an_ordinary_path_is_plain(raw: bytes):
    from urllib.parse import unquote_to_bytes

    assert plain_path(scope(unquote_to_bytes(raw).decode(), raw))
