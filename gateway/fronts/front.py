"""What every front works with. Assembled once, in `serve`; nothing here is looked up from a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.actions.publish import Publications
from gateway.actions.resources import Resources
from gateway.actions.validate import Validations
from gateway.actions.vouch import Statuses
from gateway.fronts.exposition import Family
from gateway.fronts.limits import Limits
from gateway.fronts.readers import NOBODY, Readers

if TYPE_CHECKING:
    from gateway.fronts.acme.nonces import Book


@dataclass(frozen=True, slots=True)
class Urls:
    """The external addresses, from the configuration and never from a request: no path, no trailing slash."""

    https: str
    http: str


async def _ready() -> bool:
    return True


async def _nothing() -> Sequence[Family]:
    return ()


@dataclass(frozen=True, slots=True)
class Front:
    """Resources, addresses and limits; `ready` says whether store and signer can be reached now (`/readyz`).

    `publications` holds the CRLs that were signed; `jobs/publication` renews the same ones. `validations` are run by
    `jobs/validations`. `statuses` holds the OCSP responses that were signed; `jobs/vouching` signs them ahead.
    `measures` gives the figures of the moment to `readers` (`/metrics`), who are nobody unless somebody says so.
    `nonces` is shared with the machine's other workers; None: with nobody.
    """

    resources: Resources
    urls: Urls
    limits: Limits = field(default_factory=Limits)
    publications: Publications = field(default_factory=Publications)
    validations: Validations = field(default_factory=Validations)
    statuses: Statuses = field(default_factory=Statuses)
    ready: Callable[[], Awaitable[bool]] = _ready
    measures: Callable[[], Awaitable[Sequence[Family]]] = _nothing
    readers: Readers = NOBODY
    nonces: Book | None = None
