"""Finalize ACME orders: the order's own records move in the same commits as the enrollment, and no crash parts them.

`ready -> processing` happens where the serial is reserved, `processing -> valid` where the certificate is recorded.
What is judged, signed and recorded is `enroll`'s; no second way to a certificate is here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import trio

from gateway.actions import asked
from gateway.actions.enroll import Hooks, enroll
from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.domain.application import Pair
from gateway.domain.certificate import Certificate
from gateway.domain.issuance import Issued
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import EnrollmentRequest, Proof, ProofKind, Protocol
from gateway.store import acme as store
from gateway.store.unit import Unit
from protocols.acme.states import Account, Order, OrderStatus
from protocols.pkix.csr import CertificationRequest

log = logging.getLogger(__name__)


async def finalize(
    resources: Resources,
    pair: Pair,
    account: Account,
    order: Order,
    csr: CertificationRequest,
    *,
    source: str = "",
    http_request_id: str = "",
    issued: Callable[[Issued], None] | None = None,
) -> Order:
    """Issue for an order that is ready, at most once (A82), and give the order as it then is.

    `order` may be ready no more: the claim in the store decides. `issued` is told of what this very call issued.

    Two finalizes at the same time meet in the enrollment's deduplication: the second waits for the first one's outcome.

    Raises:
        Refusal: CONFLICT, the order is not ready, or another CSR was first; POLICY, BAD_KEY or BAD_CSR, and the order
            stays ready; BUSY or UNAVAILABLE, nothing was issued and the order is ready again (A89). It is too where the
            client went away, or the gateway ended, before anything was signed.
    """
    claim = _Claim(resources, pair.id, order, csr)
    try:
        outcome = await enroll(
            resources,
            pair,
            claim.request(account),
            source=source,
            http_request_id=http_request_id,
            hooks=Hooks(with_reserve=claim.take, with_complete=claim.close),
        )
    except (Refusal, trio.Cancelled):
        if claim.taken:
            await claim.give_back()
        raise
    if isinstance(outcome, Issued) and claim.closed:
        if issued is not None:
            issued(outcome)
        return msgspec.structs.replace(
            order, status=OrderStatus.VALID, certificate_id=outcome.certificate_id, csr_hash=csr.sha256, error=None
        )
    current = await resources.store.read(lambda unit: store.find_order(unit, pair.id, order.id, resources.now()))
    if current is None:
        raise Refusal(RefusalReason.NOT_FOUND, "there is no such order")
    if current.csr_hash not in (None, csr.sha256):
        # A twin was first, with another key: its certificate would be of no use to whoever sent this one.
        raise Refusal(RefusalReason.CONFLICT, "the order has been finalized with another CSR")
    if current.status is OrderStatus.READY:
        # Accepted and still waiting: dehydrated, uacme and acmez take `ready` after a finalize as fatal.
        return msgspec.structs.replace(current, status=OrderStatus.PROCESSING)
    return current


class _Claim:
    """The order's side of one enrollment. Its hooks run inside units of work, which may run again."""

    def __init__(self, resources: Resources, pair_id: str, order: Order, csr: CertificationRequest) -> None:
        self._resources = resources
        self._pair_id = pair_id
        self._order = order
        self._csr = csr
        self.taken = False
        self.closed = False

    def request(self, account: Account) -> EnrollmentRequest:
        proof = Proof(
            protocol=Protocol.ACME,
            kind=ProofKind.ACME_ORDER,
            subject=account.id,
            request_hash=self._csr.sha256,
            evidence=self._order.authorization_ids,
        )
        same = b"acme-order:" + self._order.id.encode()  # as it is: orders sort by time, and so does this in its index
        # A86: clients write usages into every CSR and ask nobody (acme.sh: serverAuth and clientAuth); RFC 8555 has no
        # way to agree on them. The profile says what its certificates are for.
        return asked.from_csr(
            self._csr,
            proof,
            deduplication=same,
            not_before=self._order.not_before,
            not_after=self._order.not_after,
            usages=False,
        )

    def take(self, unit: Unit) -> None:
        """In the unit that reserves a serial: `ready -> processing`.

        An enrollment whose signer died reserves again while the order is still ours. Nobody else can be in between:
        the reservation is refused to a twin for as long as a request of this order is being signed.
        """
        resources = self._resources
        if store.claim_order(unit, self._order.id, self._csr.sha256, resources.now(), resources.holder):
            self.taken = True
        elif not (self.taken and self._is_ours(unit)):
            self.taken = False
            raise Refusal(RefusalReason.CONFLICT, "the order is not ready to be finalized")

    def _is_ours(self, unit: Unit) -> bool:
        """Whether the order is claimed for this CSR. What a unit took that was undone may have ended meanwhile."""
        found = store.find_order(unit, self._pair_id, self._order.id, self._resources.now())
        return found is not None and found.status is OrderStatus.PROCESSING and found.csr_hash == self._csr.sha256

    def close(self, unit: Unit, certificate: Certificate) -> None:
        """In the unit that records the certificate: `processing -> valid`."""
        store.finish_order(unit, self._order.id, certificate_id=certificate.id)
        self.closed = True

    async def give_back(self) -> None:
        """`processing -> ready`: nothing was issued. If the store is away, the next start does it."""
        try:
            holder = self._resources.holder
            with trio.CancelScope(shield=True):
                await self._resources.store.write(lambda unit: store.release_order(unit, self._order.id, holder))
        except OUTAGES as error:
            log.warning("order %s stays processing: %s", self._order.id, error)
