"""Whom the settings believe, and about what. Nothing is read from a peer here."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from gateway.fronts.readers import Networks
from gateway.serve.proxies.forms import FORMS, Form
from gateway.serve.proxies.hops import IpAddress
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings

FORWARDED: Final = ("x-forwarded-for", "forwarded")


@dataclass(frozen=True, slots=True)
class Trusted:
    """The word of proxies within `networks`, at one listener.

    `prefixed`: their connections begin with the PROXY protocol. `terminates`: they end the client's TLS. `form` is how
    they say the client's certificate, `forwarded` which header says its address; empty: none does.
    """

    networks: Networks
    prefixed: bool
    terminates: bool
    form: Form | None
    forwarded: str

    @property
    def heard(self) -> bool:
        """Whether any header of theirs is believed."""
        return self.terminates or bool(self.forwarded)

    def ours(self, address: IpAddress) -> bool:
        """Whether that is one of the proxies."""
        return any(address in each for each in self.networks)

    def ours_by_name(self, address: str) -> bool:
        """The same for an address as a socket has it."""
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return self.ours(found)


def require_consistent(settings: Settings) -> None:
    """Raises `CannotStart` for settings of proxies that contradict each other."""
    for https in (True, False):
        trusted(settings, https=https)


def trusted(settings: Settings, *, https: bool) -> Trusted | None:
    """What holds at the HTTPS or the plain HTTP listener; None where nobody is believed.

    On HTTPS, and after a PROXY header, headers are believed only where `proxies.terminate-tls` names the listener: what
    a proxy passes through is the client's own, its headers too. Raises `CannotStart` for settings that believe nobody,
    or to no effect.
    """
    listener = "https" if https else "http"
    terminates = listener in settings.proxies_terminate_tls
    if not settings.proxies_trusted:
        if settings.proxies_protocol or settings.proxies_terminate_tls:
            raise CannotStart("proxies.trusted: name the proxies' addresses; without them nobody is believed")
        if settings.proxies_client_certificate or settings.proxies_forwarded:
            raise CannotStart("proxies.trusted: name the proxies' addresses; without them no header is believed")
        return None
    if settings.proxies_client_certificate and not settings.proxies_terminate_tls:
        raise CannotStart(
            "proxies.client-certificate: a certificate is believed where the proxy ends the client's TLS; say at which "
            "listener with proxies.terminate-tls, http or https"
        )
    prefixed = listener in settings.proxies_protocol
    return Trusted(
        settings.proxies_trusted,
        prefixed,
        terminates,
        FORMS.get(settings.proxies_client_certificate) if terminates else None,
        settings.proxies_forwarded if terminates or not (https or prefixed) else "",
    )
