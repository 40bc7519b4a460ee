"""What actions work with. Assembled once, in `serve`; passed to every action by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gateway.actions.recent import Recent
from gateway.domain.access import ApplicationRole, Identity
from gateway.outbound.signer import Signer
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store


@dataclass(frozen=True, slots=True)
class Resources:
    """Store, signer, the current catalogue, the time (aware, UTC) and dice (that many random bytes).

    `enrollments` counts by protocol and outcome what was asked of `enroll` since the start. `holder` names this process
    in what it has under way (`store.duty`); None where nobody could ask whether it lives. `bearers` are by the SHA-256
    of their tokens, `roles` by identity and application.
    """

    store: Store
    signer: Signer
    catalogue: Callable[[], Catalogue]
    now: Callable[[], datetime]
    dice: Callable[[int], bytes]
    enrollments: Counter[tuple[str, str]] = field(default_factory=Counter)
    holder: int | None = None
    bearers: Recent[bytes, Identity] = field(default_factory=Recent)
    roles: Recent[tuple[str, str], ApplicationRole] = field(default_factory=Recent)
