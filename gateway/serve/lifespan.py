"""The running gateway: every nursery is opened here, one inside the other, and closed in the reverse order.

    store > signer (supervisor, client) > jobs (catalogue, validations, publication, retention, renewal) > connections

So a request always finds what it needs, and the store outlives them all. Nothing is decided here.
"""

from __future__ import annotations

import logging
import secrets
import signal
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.publish import Publications
from gateway.actions.resources import Resources
from gateway.actions.validate import Validations
from gateway.actions.vouch import Statuses
from gateway.domain.succession import acceptable
from gateway.fronts.early import Early
from gateway.fronts.front import Front, Urls
from gateway.fronts.readers import readers
from gateway.fronts.routes import routes
from gateway.jobs.publication import keep_published
from gateway.jobs.recovery import recover_overdue
from gateway.jobs.retention import sweep
from gateway.jobs.validations import validate_challenges
from gateway.jobs.vouching import keep_vouched
from gateway.outbound.challenges.http01 import Http01
from gateway.outbound.resolver.resolver import NameResolver
from gateway.outbound.signer import open_signer
from gateway.serve import folder, quickstart, sockets
from gateway.serve.asgi import application
from gateway.serve.current import Current, warn_of_the_clock
from gateway.serve.follow import follow
from gateway.serve.guard import guard, ready
from gateway.serve.limiting import limits
from gateway.serve.listener import Door, listen
from gateway.serve.metrics import Measured, started
from gateway.serve.opening import now, opened_store, usable
from gateway.serve.quickstart import APPLICATION, SERVERS, Quickstart, Secrets
from gateway.serve.renewal import keep_listener_certificate, listener_issuer
from gateway.serve.rounds import Rounds
from gateway.serve.start import House
from gateway.serve.telemetry import Counters
from gateway.serve.tls import server_context
from gateway.store import catalogue, issuance, revocation_lists
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store

logger = logging.getLogger("muster.serve")

STATUS_SECONDS: Final = 1.0  # on PostgreSQL: a round trip costs more than an answer; a revocation waits as long
READY_SECONDS: Final = 2.0  # a load balancer asks again in a few seconds


async def live(house: House) -> None:
    """Run the gateway until SIGTERM or SIGINT; a second one does not wait for open requests. Raises `CannotStart`."""
    ending = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, signals, ending, nursery.cancel_scope)
            async with opened_store(house.settings) as store:
                await _with_store(house, store, ending)
            nursery.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], ending: trio.Event, everything: trio.CancelScope) -> None:
    async for number in signals:
        logger.info("ending", extra={"signal": signal.Signals(number).name})
        if ending.is_set():
            everything.cancel()
        ending.set()


async def _with_store(house: House, store: Store, ending: trio.Event) -> None:
    workers = await ready(house.supervisor, house.runtime)
    with usable():
        await store.read(catalogue.load)  # damage deep in a store shows when it is read
        # From here on nothing refuses to start, and the folder may change.
        folder.note_holder(house.folder)
        burnt = await store.write(partial(issuance.recover, at=now()))
        await store.write(revocation_lists.give_all_back)
    if burnt:
        logger.warning("serials of a stop in mid-signature are marked burnt", extra={"serials": ",".join(burnt)})
    async with trio.open_nursery() as signers:
        signers.start_soon(guard, house.settings, house.secret, house.runtime, house.supervisor)
        async with open_signer(workers, queue=house.settings.signer_queue) as signer:
            urls = external_urls(house)
            with usable():
                known = await _known(house, store, urls)
                current = Current(store, await store.read(catalogue.load))
            warn_of_the_clock(current(), now())
            resources = Resources(store, signer, current, now, secrets.token_bytes)
            facts = quickstart.facts(house.folder, known, https=urls.https, http=urls.http)
            await _with_signer(house, resources, current, facts, ending)
        signers.cancel_scope.cancel()


async def _known(house: House, store: Store, urls: Urls) -> Secrets:
    """What a first start makes, or what a later one finds; the catalogue speaks of the addresses of this start then."""
    if house.made is not None:
        from gateway.serve.first_start import declare  # a tenth of a second that later starts need not spend

        return await declare(house.settings, house.made, store, urls, now=now(), dice=secrets.token_bytes)
    last = quickstart.earlier(house.folder)
    addresses = (last.http if last is not None else "", urls.http)
    await follow(store, http=addresses, http01_port=house.settings.acme_http01_port, now=now())
    return quickstart.kept_secrets(house.folder, last)


async def _with_signer(
    house: House, resources: Resources, current: Current, facts: Quickstart, ending: trio.Event
) -> None:
    publications = Publications()
    statuses = Statuses(memory=STATUS_SECONDS if house.settings.store_url.startswith("postgres") else 0.0)
    validations = Validations(Http01(NameResolver(resources.dice)))
    counters = Counters()
    front = Front(
        resources,
        Urls(facts.https, facts.http),
        publications=publications,
        validations=validations,
        statuses=statuses,
        limits=limits(house.settings),
        ready=partial(_ready, resources),
        measures=Measured(resources, counters, publications, statuses, started()),
        readers=readers(house.settings.metrics),
    )
    secure = [Door(one, house.settings.connections, _context(house, current())) for one in house.https]
    plain = [Door(one, house.settings.connections) for one in house.http]

    def changed(snapshot: Catalogue) -> None:
        for door in secure:
            door.context = _context(house, snapshot)

    async with trio.open_nursery() as jobs:
        jobs.start_soon(current.watch, changed)
        await jobs.start(validate_challenges, resources, validations)
        jobs.start_soon(keep_published, resources, publications)
        jobs.start_soon(keep_vouched, resources, statuses)
        jobs.start_soon(recover_overdue, resources)
        jobs.start_soon(sweep, resources)
        issuer, renewed = (lambda: listener_issuer(current())), (lambda: changed(current()))
        jobs.start_soon(keep_listener_certificate, house.settings, house.secret, issuer, renewed)
        async with trio.open_nursery() as serving:
            every = routes(front)
            early = Early(front, every, counters.told_early)
            trio.lowlevel.add_instrument(Rounds(front.limits.admission.round_took))
            asgi = application(every, counters)
            await serving.start(partial(listen, asgi, house.settings, [*secure, *plain], ending, early=early))
            announce(house, facts, current())
        logger.info("ended", extra=counters.facts())
        jobs.cancel_scope.cancel()


def _context(house: House, snapshot: Catalogue) -> ssl.SSLContext:
    """The HTTPS listener's context, which asks clients for certificates of the authorities that issue."""
    chain, key = folder.listener_pair(house.settings)
    trusted = {each for pair in snapshot.pairs for each in acceptable(pair.authority, snapshot.authorities)}
    return server_context(chain, key, trusted)


async def _ready(resources: Resources) -> bool:
    with trio.move_on_after(READY_SECONDS):
        try:
            await resources.store.read(catalogue.version)
        except OUTAGES:
            return False
        return resources.signer.reachable
    return False


def external_urls(house: House) -> Urls:
    """How clients reach us: as the settings say, else the addresses themselves. Never from a request."""
    settings = house.settings
    https = settings.external_url or sockets.origin("https", settings.https, house.https)
    return Urls(https=https, http=sockets.plain_url(settings, house.http))


def announce(house: House, facts: Quickstart, snapshot: Catalogue) -> None:
    """Write `quickstart.json`, close a first start, and print the greeting and the line that scripts wait for."""
    quickstart.write(house.folder, facts)
    folder.finish(house.folder)
    demo = snapshot.pair(APPLICATION, SERVERS)
    port = 80 if demo is None or demo.settings.acme is None else demo.settings.acme.http01_port
    may = sockets.may_listen(port)
    print(quickstart.greeting(facts, house.folder, port, may_listen=may))  # noqa: T201 - the greeting
    print(f"ready {sockets.origin('https', house.settings.https, house.https)}", flush=True)  # noqa: T201 - the greeting
