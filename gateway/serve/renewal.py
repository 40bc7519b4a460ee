"""Keeps the HTTPS listener's own certificate in force: it lasts 397 days, a gateway may run for longer.

Only the certificate that the first start made is renewed; one that the settings name is its owner's. The key is made
and the certificate signed by the signer's program, never here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import trio
from cryptography import x509

from gateway.serve import ceremony
from gateway.serve.folder import Folder
from gateway.serve.opening import now
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings

logger = logging.getLogger("muster.tls")

# A third of its life: a store of keys that cannot be written for a month is noticed in time.
AHEAD: Final = timedelta(days=60)
PAUSE: Final = 12 * 3600.0  # seconds


async def keep_listener_certificate(settings: Settings, secret: str, renewed: Callable[[], None]) -> None:
    """Look now and twice a day, for ever; `renewed` is told of a new certificate. Ends by cancellation only."""
    while settings.tls_certificate is None:
        try:
            if await trio.to_thread.run_sync(_due, Folder(settings.data)):
                await trio.to_thread.run_sync(ceremony.renew_tls, settings, secret)
                logger.info("the listener has a new certificate")
                renewed()
        except (CannotStart, OSError, ValueError) as trouble:
            logger.warning("the listener's certificate was not renewed", extra={"cause": str(trouble)})
        await trio.sleep(PAUSE)


def _due(folder: Folder) -> bool:
    certificate = x509.load_pem_x509_certificate((folder.tls / "chain.pem").read_bytes())
    return certificate.not_valid_after_utc - now() < AHEAD
