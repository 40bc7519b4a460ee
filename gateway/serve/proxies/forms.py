"""A client's certificate in a header, in the form of one proxy. Pure: header values in, DER out.

That a certificate can be read says nothing of who issued it: `believe` asks that. Nothing of a value is repeated.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

# Certificates of devices have one or two KiB; with a chain beside it a header still fits a head.
MOST: Final = 32 * 1024
MOST_DER: Final = 16 * 1024

_PEM: Final = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
# Envoy: `Key=value` with semicolons between, values quoted where they need it (it always quotes certificates).
_XFCC: Final = re.compile(r'([A-Za-z]+)=("(?:[^"\\,;]|[,;]|\\.)*"|[^",;]*)(;|$)')


class BadForm(ValueError):
    """The header is not in the form that the settings name."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one kind of proxy says it. Names are lower case, as they stand in a scope.

    `others` go with it, and are taken out of every request like `header` itself. `verdict` is a header of its own that
    says what the proxy made of the certificate; SUCCESS is the only good one.
    """

    header: bytes
    read: Callable[[str], bytes | None]
    others: tuple[bytes, ...] = ()
    verdict: bytes | None = None


def rfc9440(value: str) -> bytes | None:
    """Client-Cert: a byte sequence, base64 between colons (RFC 9440, 2.1; RFC 8941, 3.3.5)."""
    text = value.strip(" \t")
    if len(text) < 2 or not text.startswith(":") or not text.endswith(":"):
        raise BadForm("Client-Cert is not a byte sequence")
    return _base64(text[1:-1])


def escaped_pem(value: str) -> bytes | None:
    """As nginx's `$ssl_client_escaped_cert`: PEM, percent-encoded."""
    return _pem(_unquoted(value)) if value.strip() else None


def der(value: str) -> bytes | None:
    """As HAProxy's `%[ssl_c_der,base64]`: DER in base64. Without a certificate it is empty, or a dash."""
    text = value.strip().strip('"')
    return _base64(text) if text not in {"", "-"} else None


def traefik(value: str) -> bytes | None:
    """X-Forwarded-Tls-Client-Cert: PEM without its first, last and other line ends, percent-encoded, leaf first."""
    if not value.strip():
        return None
    first = _unquoted(value).split(b",", 1)[0].strip()
    # Traefik 1 and some versions of 2 left the lines of BEGIN and END in.
    return _pem(first) if first.startswith(b"-----") else _base64(first.decode("latin-1"))


def envoy(value: str) -> bytes | None:
    """X-Forwarded-Client-Cert with `set_current_client_cert_details: {cert: true}`, one element.

    Several are several proxies' words, the left ones perhaps the client's: Envoy is to be told SANITIZE_SET.
    """
    if not value.strip():
        return None
    found: list[bytes] = []
    at = 0
    while at < len(value):
        part = _XFCC.match(value, at)
        if part is None:
            raise BadForm("X-Forwarded-Client-Cert has other than one element; let Envoy SANITIZE_SET it")
        at = part.end()
        if part[1].lower() == "cert":
            found.append(_pem(_unquoted(part[2].strip('"'))))
    if len(found) > 1:
        raise BadForm("X-Forwarded-Client-Cert names two certificates")
    if not found:
        raise BadForm("X-Forwarded-Client-Cert names no Cert; let Envoy set cert: true")
    return found[0]


FORMS: Final[Mapping[str, Form]] = {
    "rfc9440": Form(b"client-cert", rfc9440, (b"client-cert-chain",)),
    "nginx": Form(b"x-ssl-client-cert", escaped_pem, verdict=b"x-ssl-client-verify"),
    "ingress-nginx": Form(b"ssl-client-cert", escaped_pem, verdict=b"ssl-client-verify"),
    "haproxy": Form(b"x-ssl-client-der", der, verdict=None),
    "envoy": Form(b"x-forwarded-client-cert", envoy),
    "traefik": Form(b"x-forwarded-tls-client-cert", traefik, (b"x-forwarded-tls-client-cert-info",)),
}

# Whoever may have sent them, none of these reaches the application (E22).
STRIPPED: Final = frozenset(
    name
    for form in FORMS.values()
    for name in (form.header, *form.others, *((form.verdict,) if form.verdict is not None else ()))
)


def _unquoted(value: str) -> bytes:
    if len(value) > MOST:
        raise BadForm("the certificate is too long")
    # No plus for a blank: it is one of base64's letters, and nginx leaves it as it is.
    return unquote_to_bytes(value.encode("latin-1"))


def _pem(data: bytes) -> bytes:
    found = _PEM.fullmatch(data)
    if found is None:
        raise BadForm("the certificate is not PEM")
    return _base64(b"".join(found[1].split()).decode("ascii"))


def _base64(text: str) -> bytes:
    if len(text) > MOST:
        raise BadForm("the certificate is too long")
    try:
        found = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise BadForm("the certificate is not base64") from None
    if not 0 < len(found) <= MOST_DER:
        raise BadForm("the certificate is empty or too long")
    return found
