"""TLS: the context that listens, and the facts about a peer that go into the scope.

No header speaks here: what `extensions.tls` says comes from the handshake alone. No certificate is judged beyond its
chain: revocation, pair and term are `actions/authenticate`'s affair. No trio is imported: the parent loads this
before it starts its children.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

from gateway.serve.refusal import CannotStart

# E10, E11: TLS 1.2 with forward secrecy and AEAD only; libest offers ECDHE-{ECDSA,RSA}-AES128-GCM and CHACHA20.
# TLS 1.3's suites are all fit and not ruled by this.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
ALPN: Final = ("h2", "http/1.1")
_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# X509_V_FLAG_NO_CHECK_TIME, x509_vfy.h. An expired certificate passes the handshake and is then refused with a sentence
# by the protocol (E61), where a TLS alert would tell a device nothing.
_NO_CHECK_TIME: Final = 0x200000

# One ticket instead of OpenSSL's two: devices open one connection at a time, and each ticket, with the client's
# certificate in it, is sealed at every full handshake (P6).
_TICKETS: Final = 1

TlsFact: TypeAlias = str | int | bytes | tuple[bytes, ...] | None
# Suites by their IANA numbers, as the ASGI extension wants them; OpenSSL's ids carry the number in the low 16 bits.
_SUITES: Final = {
    str(cipher["name"]): int(str(cipher["id"])) & 0xFFFF
    for cipher in ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
}

# _ssl.ENCODING_DER, which has no public name.
_DER: Final = 2


class Conversation(ssl.SSLObject):
    """OpenSSL's side of a connection, that remembers which name it was asked for (`presenting` tells it)."""

    asked: str | None = None

    @property
    def server_hostname(self) -> str | None:
        """The server name indication (RFC 6066, 3) of the ClientHello, if there was one."""
        return self.asked

    def judged_chain(self) -> tuple[bytes, ...]:
        """The client's chain as the handshake verified it, DER, leaf first, its trust anchor last.

        The leaf alone on a resumed session, whose ticket holds no more, and where this Python has no such method.
        """
        # Public from 3.13 on. 3.11 and 3.12 have the same method a level below, and will not change any more.
        found = getattr(self, "get_verified_chain", None)
        if found is not None:
            chain = tuple(bytes(each) for each in found())
        else:
            below = getattr(getattr(self, "_sslobj", None), "get_verified_chain", None)
            chain = tuple(bytes(each.public_bytes(_DER)) for each in below() or ()) if below is not None else ()
        if chain:
            return chain
        leaf = self.getpeercert(binary_form=True)
        return (leaf,) if leaf else ()


def require_pair(chain: Path, key: Path, *, folder: bool = False) -> None:
    """Look whether these files make a server, before anything is made. Raises `CannotStart` where they do not.

    `folder`: they are of `tls.folder`, and the error says so.
    """
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, key, _settings(folder=folder))


def require_folder(folder: Path | None) -> None:
    """The same for every pair in `tls.folder`."""
    if folder is not None:
        from gateway.serve import pairs  # it reads certificates' names, for which most starts need load nothing

        pairs.read_folder(folder)


def server_context(chain: Path, key: Path, trusted: Iterable[bytes], *more: tuple[Path, Path]) -> ssl.SSLContext:
    """A listener's context. `trusted` are the issuing authorities' certificates, DER.

    `more` are chains and keys of other key types for the same names: OpenSSL holds one of each, and takes the one that
    the client can verify. A client certificate is asked for and optional (E12). One that no trusted authority issued
    ends the handshake with an alert: OpenSSL offers Python no say in it. Raises `CannotStart` where the files do not
    make a server.
    """
    context = blank_context(trusted)
    for each in ((chain, key), *more):
        _load(context, *each, _settings(folder=False))
    return context


def blank_context(trusted: Iterable[bytes]) -> ssl.SSLContext:
    """The same without a certificate, for who chooses another context once the client has said which name it wants."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Conversation
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(ALPN))
    # RFC 9113, 9.2.1: no compression, no renegotiation. Tickets stay: EST clients resume (RFC 7030, 3.3).
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = _TICKETS
    authorities = b"".join(trusted)
    if authorities:
        context.verify_mode = ssl.CERT_OPTIONAL
        # An issuing authority is an anchor by itself: its root may have issued others that are none of ours.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
        context.load_verify_locations(cadata=authorities)
    return context


def facts(conversation: Conversation) -> dict[str, TlsFact]:
    """What the handshake established, in the names of the ASGI TLS extension, certificates as DER.

    `tls_version` is the protocol's number (0x0304 for TLS 1.3). `client_cert_chain_der` is the path that was verified,
    leaf first; a resumed session knows its leaf alone. `server_name` is what the client asked for, on TLS 1.2 in the
    session that it resumes: nothing may depend on it. `tls_unique`
    (RFC 5929) is there for TLS 1.2 only: on TLS 1.3 CPython returns a value that is not a channel binding. RFC 9266's
    exporter is not there: no supported Python reaches it, and reading OpenSSL's structures from outside is not sound.
    """
    version = conversation.version() or ""
    cipher = conversation.cipher()
    found: dict[str, TlsFact] = {
        "tls_version": _VERSIONS.get(version),
        "cipher_suite": _SUITES.get(cipher[0]) if cipher else None,
        "client_cert_der": (leaf := conversation.getpeercert(binary_form=True)),
        "client_cert_chain_der": conversation.judged_chain() if leaf else (),
        "server_name": conversation.asked,
    }
    if version == "TLSv1.2":
        found["tls_unique"] = conversation.get_channel_binding("tls-unique")
    return found


def _settings(*, folder: bool) -> str:
    return "tls.folder" if folder else "tls.certificate, tls.key"


def _load(context: ssl.SSLContext, chain: Path, key: Path, settings: str) -> None:
    def encrypted() -> str:
        # Without it OpenSSL would ask the terminal, and a service would wait for ever.
        raise CannotStart(f"HTTPS cannot use {key}: it is encrypted; name a key that is not, in a file of mode 0600")

    for file in (chain, key):
        try:
            file.open("rb").close()
        except OSError as error:
            raise CannotStart(f"HTTPS cannot use {file}: {error.strerror}; see {settings}") from None
    try:
        context.load_cert_chain(chain, key, encrypted)
    except (OSError, ssl.SSLError) as error:
        # The text of a file that is no PEM at all names a line of CPython's, and no reason.
        reason = (getattr(error, "reason", None) or "NOT_PEM").lower().replace("_", " ")
        raise CannotStart(f"HTTPS cannot use {chain} with {key}: {reason}; see {settings}") from None
