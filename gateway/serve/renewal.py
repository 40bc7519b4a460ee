"""Keeps the HTTPS listener's own certificate in force: it lasts 397 days, and has the names of the day it was made.

Only the certificate that the first start made is renewed; one that the settings name is its owner's. The key is made
and the certificate signed by the signer's program, never here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

import trio
from cryptography import x509

from gateway.domain.succession import latest
from gateway.serve import ceremony
from gateway.serve.folder import Folder
from gateway.serve.opening import now
from gateway.serve.settings import Settings
from gateway.store.catalogue import Catalogue

logger = logging.getLogger("muster.tls")

# More than a seventh of its life: a store of keys that cannot be written for a month is noticed in time.
AHEAD: Final = timedelta(days=60)
ISSUING: Final = "issuing"  # as a first start names it
PAUSE: Final = 12 * 3600.0  # seconds


async def keep_listener_certificate(
    settings: Settings, issuer: Callable[[], str], renew: Callable[[str], Awaitable[None]]
) -> None:
    """Look now and twice a day, for ever, and ask `renew` for the next one in time. Ends by cancellation only.

    `issuer` names the key that signs it.
    """
    while settings.tls_certificate is None:
        try:
            if await trio.to_thread.run_sync(_due, settings):
                await renew(issuer())
        except (OSError, ValueError) as trouble:
            logger.warning("the listener's certificate cannot be looked at", extra={"cause": str(trouble)})
        await trio.sleep(PAUSE)


def listener_issuer(snapshot: Catalogue) -> str:
    """The key of the authority that issues the listener's certificate: the first start's, or who took its place.

    Not at once: whoever has not fetched a new root yet trusts the certificate before it, until it ends. No TLS client
    understands a signature of ML-DSA today (RFC 8446, 4.2.3), so one with such a key does not issue it.
    """
    by_id = {each.id: each for each in snapshot.authorities}
    for each in snapshot.authorities:
        last = latest(each, by_id)
        if each.name == ISSUING and not last.key_algorithm.startswith("ML-DSA"):
            return last.key
    return ISSUING


def _due(settings: Settings) -> bool:
    """It ends soon, or the machine or `external-url` has another name now than when it was made."""
    certificate = x509.load_pem_x509_certificate((Folder(settings.data).tls / "chain.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {str(name.value).lower() for name in names}
    return certificate.not_valid_after_utc - now() < AHEAD or not known.issuperset(_written(ceremony.hosts(settings)))


def _written(hosts: Iterable[str]) -> Iterator[str]:
    """Each as a certificate writes it."""
    for host in hosts:
        try:
            yield str(ip_address(host))
        except ValueError:
            yield host.rstrip(".")
