"""What HTTP/1.1 refuses of a head, HTTP/2 refuses too."""

from __future__ import annotations

import pytest

from gateway.serve.http1 import head as http1
from gateway.serve.http1.head import FIELDS, Unreadable
from gateway.serve.http2.head import Malformed, require_readable

USUAL = {b":method": b"POST", b":scheme": b"https", b":authority": b"localhost", b":path": b"/acme"}


def fields(
    *more: tuple[bytes, bytes], method: bytes = b"POST", path: bytes = b"/acme", authority: bytes = b"localhost"
) -> list[tuple[bytes, bytes]]:
    changed = {b":method": method, b":path": path, b":authority": authority}
    return [*(USUAL | changed).items(), *more]


@pytest.mark.parametrize(
    "said",
    [
        fields(),
        fields(method=b"OPTIONS", path=b"*"),
        fields(path=b"/scep?operation=PKIOperation&message=MII%2B"),
        fields(authority=b"[::1]:8443"),
        fields((b"content-length", b"12")),
        fields(*[(b"x-field", b"value")] * FIELDS),
    ],
)
def test_what_clients_say_passes(said) -> None:
    require_readable(said, ended=False)


@pytest.mark.parametrize(
    "said",
    [
        fields(method=b"CONNECT"),
        fields(method=b"G\xffT"),
        fields(method=b"GE T"),
        fields(method=b""),
        fields(path=b""),
        fields(path=b"acme"),
        fields(path=b"*"),
        fields(path=b"/\xff"),
        fields(path=b"/a b"),
        fields(path=b"/a#b"),
        fields(path=b"https://localhost/acme"),
        fields(authority=b"a b"),
        fields(authority=b"localhost/\x7f"),
        fields((b"host", b"user@localhost")),
        fields((b"content-length", b"5"), (b"content-length", b"5")),
        fields((b"content-length", b"+5")),
        fields((b"content-length", b"")),
        [each for each in fields() if each[0] != b":path"],
    ],
)
def test_what_is_no_request_is_malformed(said) -> None:
    """RFC 9113, 8.1.1 and 8.3.1."""
    with pytest.raises(Malformed):
        require_readable(said, ended=False)


def test_a_length_without_a_body_is_malformed_and_none_at_all_is_not() -> None:
    with pytest.raises(Malformed):
        require_readable(fields((b"content-length", b"5")), ended=True)
    require_readable(fields((b"content-length", b"0")), ended=True)
    require_readable(fields(), ended=True)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (fields(method=b"get"), 501),
        (fields(method=b"connect"), 501),
        (fields(method=b"TRACE"), 501),
        (fields(*[(b"x-field", b"value")] * (FIELDS + 1)), 431),
        (fields((b"content-length", b"9" * 16)), 413),
    ],
)
def test_what_is_not_taken_is_answered_as_http_1_1_answers_it(said, status) -> None:
    with pytest.raises(Unreadable) as refused:
        require_readable(said, ended=False)
    assert refused.value.status == status
    of = dict(said)
    lines = b"".join(b"%b: %b\r\n" % each for each in said if not each[0].startswith(b":"))
    with pytest.raises(Unreadable) as elsewhere:
        http1.read(b"%b %b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (of[b":method"], of[b":path"], lines), secure=True)
    assert elsewhere.value.status == status
