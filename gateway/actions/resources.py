"""What actions work with. Assembled once, in `serve`; passed to every action by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.outbound.signer import Signer
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store


@dataclass(frozen=True, slots=True)
class Resources:
    """Store, signer, the current catalogue, the time (aware, UTC) and dice (that many random bytes)."""

    store: Store
    signer: Signer
    catalogue: Callable[[], Catalogue]
    now: Callable[[], datetime]
    dice: Callable[[int], bytes]
