"""The bare program does the same work: the same drivers get whole certificates from it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.bare.issuer import Issuer
from bench.bare.served import Served, served
from bench.load.acme import Enrolling as AcmeEnrolling
from bench.load.est import Enrolling as EstEnrolling
from bench.load.fleet import Fleet
from bench.load.requests import csr, elliptic
from bench.load.responder import Announcing, Responder
from bench.load.wire import Connection


@pytest.fixture(scope="module")
def bare() -> Iterator[Served]:
    """One in a process of its own."""
    authority = Issuer().issue(csr(elliptic(), "authority.bench.example")).public_bytes(Encoding.DER)
    responder = Responder()
    try:
        with served(responder, authority) as found:
            yield found
    finally:
        responder.close()


def connection(bare: Served, fleet: Fleet) -> Connection:
    return Connection(bare.url, fleet.trust.context())


@pytest.mark.parametrize("ready", [True, False], ids=["ready at once", "http-01"])
def test_acme_goes_from_new_order_to_download(bare: Served, ready: bool):
    fleet = bare.acme(ready=ready)
    talk = connection(bare, fleet)
    with closing(Announcing(bare.responder.address)) as announcing:
        client = AcmeEnrolling(fleet, announcing.say)
        talk.play(client.register())
        key = elliptic()
        chain, _ = talk.play(client.issue("h1.bench.example", csr(key, "h1.bench.example")))
    assert x509.load_pem_x509_certificate(chain).public_key() == key.public_key()
    talk.close()


def test_est_gives_a_certificate(bare: Served):
    fleet = bare.est()
    talk = connection(bare, fleet)
    issued = talk.play(EstEnrolling(fleet).issue(opened=True))
    assert x509.load_pem_x509_certificate(issued).serial_number > 0
    talk.close()


def test_rest_gives_a_certificate(bare: Served):
    fleet = bare.rest()
    talk = connection(bare, fleet)
    for player in fleet.players(1, 1):
        talk.play(player.enroll())  # raises where the answer has none
    talk.close()
