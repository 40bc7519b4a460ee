"""Certificates (RFC 8555, 7.4.2): downloaded by the account that ordered them, and by nobody else."""

from __future__ import annotations

from typing import Final

from protocols.acme.failures import missing
from protocols.acme.messages import Site
from protocols.acme.needs import ReadChain
from protocols.acme.operations import signed
from protocols.exchange import Exchange, Reply, ask
from protocols.pkix import pem

MEDIA_TYPE: Final = "application/pem-certificate-chain"


def read(site: Site, by: signed.ByAccount, certificate_id: str) -> Exchange[Reply]:
    """The certificate and its chain below the root, leaf first (A91).

    Raises:
        Failure: 404 for an unknown one and for another's alike (A93, A94).
    """
    signed.expect_empty(by.payload)
    chain = yield from ask(ReadChain(by.account.id, certificate_id))
    if chain is None:
        raise missing("certificate")
    leaf, *above = chain
    body = pem.encode(pem.CERTIFICATE, leaf) + pem.encode_authorities(tuple(above))
    return Reply(200, body, MEDIA_TYPE, (site.index,))
