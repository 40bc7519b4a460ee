"""A worker's life: every nursery is opened here, one inside the other, and closed in the reverse order.

    link to the parent > store > signer's client > jobs (this worker's, and those of whoever has the turn) > connections

So a request always finds what it needs, and the store outlives them all. Nothing is decided here.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.publish import Publications
from gateway.actions.resources import Resources
from gateway.actions.validate import Validations
from gateway.actions.vouch import Statuses
from gateway.domain.succession import acceptable
from gateway.fronts.acme.nonces import Book
from gateway.fronts.early import Early
from gateway.fronts.front import Front, Urls
from gateway.fronts.readers import readers
from gateway.fronts.routes import routes
from gateway.jobs.publication import keep_published
from gateway.jobs.recovery import OVERDUE, recover_abandoned, recover_overdue
from gateway.jobs.retention import sweep
from gateway.jobs.validations import take_up_abandoned, validate_challenges
from gateway.jobs.vouching import keep_vouched
from gateway.outbound.challenges.http01 import Http01
from gateway.outbound.resolver.resolver import NameResolver
from gateway.outbound.signer import open_signer
from gateway.serve import folder, quickstart, sockets, telemetry
from gateway.serve.asgi import answering, application
from gateway.serve.current import Current, warn_of_the_clock
from gateway.serve.folder import Folder
from gateway.serve.follow import follow
from gateway.serve.limiting import limits
from gateway.serve.listener import Door, listen
from gateway.serve.metrics import Measured, started
from gateway.serve.opening import now, opened_duty, opened_store, usable
from gateway.serve.presenting import Presented
from gateway.serve.quickstart import APPLICATION, SERVERS, Quickstart, Secrets
from gateway.serve.refusal import CannotStart
from gateway.serve.renewal import keep_listener_certificate, listener_issuer
from gateway.serve.rounds import Rounds
from gateway.serve.settings import Settings
from gateway.serve.telemetry import Counters
from gateway.serve.workers import orders
from gateway.serve.workers.channel import Channel
from gateway.serve.workers.claims import Claims
from gateway.serve.workers.link import Link
from gateway.serve.workers.memory import Memory
from gateway.serve.workers.orders import Orders
from gateway.serve.workers.spread import Turns
from gateway.store import catalogue, issuance, revocation_lists
from gateway.store.catalogue import Catalogue
from gateway.store.duty import Duty
from gateway.store.unit import Store

logger = logging.getLogger("muster.serve")

READY_SECONDS: Final = 2.0  # a load balancer asks again in a few seconds
# On one machine whose validation it is can be asked; of another's only its longest time is known.
ELSEWHERE_SECONDS: Final = 360.0
# Whether a process lives is a lock of its connection there, which is made anew within so long when it breaks.
AWAY_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class House:
    """What this worker was told and has inherited."""

    orders: Orders
    settings: Settings
    folder: Folder
    https: list[socket.socket]
    http: list[socket.socket]
    memory: Memory
    link: Link
    turns: Turns
    ending: trio.Event = field(default_factory=trio.Event)

    @property
    def room(self) -> int:
        """Connections at one listening socket: this worker's part of all."""
        return -(-self.settings.connections // self.orders.workers)


async def serve(told: Orders, channel: socket.socket, rest: bytes) -> int:
    """Serve until SIGTERM or the parent's end; gives the exit status."""
    settings = orders.unpacked(told)
    telemetry.start(settings)
    memory = Memory(told.memory)
    house = House(
        told,
        settings,
        Folder(settings.data),
        [socket.socket(fileno=each) for each in told.https],
        [socket.socket(fileno=each) for each in told.http],
        memory,
        Link(Channel(channel, rest)),
        Turns(memory, told.slot),
    )
    status = 0
    try:
        await live(house)
    except* CannotStart as refused:
        await house.link.refuse(_sentence(refused))
        status = 2
    return status


async def live(house: House) -> None:
    """Run the worker until SIGTERM or its parent's end; a second signal does not wait. Raises `CannotStart`."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, signals, house.ending, nursery.cancel_scope)
            nursery.start_soon(house.link.hear, house.ending.set)
            async with opened_store(house.settings) as store, opened_duty(house.settings) as duty:
                await _with_store(house, store, duty)
            nursery.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], ending: trio.Event, everything: trio.CancelScope) -> None:
    async for _ in signals:
        if ending.is_set():
            everything.cancel()
        ending.set()


async def _with_store(house: House, store: Store, duty: Duty) -> None:
    with usable():
        await store.read(catalogue.load)  # damage deep in a store shows when it is read
        # From here on nothing refuses to start, and the folder may change.
        if house.orders.first:
            await _put_in_order(store, alone=duty.alone)
    async with open_signer(house.orders.signer, queue=house.settings.signer_queue) as signer:
        urls = external_urls(house)
        with usable():
            known = await _known(house, store, urls)
            current = Current(store, await store.read(catalogue.load))
        if house.orders.first:
            warn_of_the_clock(current(), now())
        # The same dice as `secrets.token_bytes`, which throws them two calls further down.
        resources = Resources(store, signer, current, now, os.urandom, holder=duty.holder)
        pid = house.orders.parent
        facts = quickstart.facts(house.folder, known, https=urls.https, http=urls.http, pid=pid)
        await _with_signer(house, resources, current, facts, duty)


async def _put_in_order(store: Store, *, alone: bool) -> None:
    """What a stop without warning left. Where another machine's gateway works, only what is nobody's any more."""
    at = now()
    burnt = await store.write(partial(issuance.recover, at=at, before=None if alone else at - OVERDUE))
    await store.write(revocation_lists.give_all_back)
    if burnt:
        logger.warning("serials of a stop in mid-signature are marked burnt", extra={"serials": ",".join(burnt)})


async def _known(house: House, store: Store, urls: Urls) -> Secrets:
    """What a first start makes, or what a later one finds; the catalogue speaks of the addresses of this start then."""
    made = house.orders.made
    if made is not None:
        from gateway.serve.first_start import declare  # a tenth of a second that later starts need not spend

        return await declare(house.settings, made, store, urls, now=now(), dice=secrets.token_bytes)
    last = quickstart.earlier(house.folder)
    if not house.orders.first:
        return quickstart.kept_secrets(house.folder, last)
    addresses = (last.http if last is not None else "", urls.http)
    await follow(store, http=addresses, http01_port=house.settings.acme_http01_port, now=now())
    return quickstart.kept_secrets(house.folder, last)


async def _with_signer(house: House, resources: Resources, current: Current, facts: Quickstart, duty: Duty) -> None:
    publications = Publications()
    statuses = Statuses()
    validations = Validations(Http01(NameResolver(resources.dice)), claims=Claims(house.folder.claims))
    counters = Counters()
    measured = Measured(resources, counters, publications, statuses, started())
    link, told = house.link, house.orders
    link.measure, link.validations = measured, lambda: validations.under_way
    front = Front(
        resources,
        Urls(facts.https, facts.http),
        publications=publications,
        validations=validations,
        statuses=statuses,
        limits=limits(house.settings, house.memory.rates, told.rates, house.memory.guesses),
        ready=partial(_ready, resources),
        measures=link.measured,
        readers=readers(house.settings.metrics),
        nonces=Book(told.nonces[0], house.memory.regions(), told.slot, told.nonces[1]),
    )
    presented = Presented(*folder.listener_pair(house.settings), house.settings.tls_folder, _trusted(current()))
    secure = [Door(one, house.room, presented.context, house.turns) for one in house.https]
    plain = [Door(one, house.room, turns=house.turns) for one in house.http]

    def exchanged() -> None:
        for door in secure:
            door.context = presented.context

    def changed(snapshot: Catalogue) -> None:
        presented.trust(_trusted(snapshot))
        exchanged()

    async with trio.open_nursery() as jobs:
        jobs.start_soon(current.watch, changed)
        jobs.start_soon(presented.watch, exchanged)
        await jobs.start(partial(validate_challenges, resources, validations, resuming=told.first and duty.alone))
        jobs.start_soon(keep_published, resources, publications)
        jobs.start_soon(keep_vouched, resources, statuses)
        jobs.start_soon(link.keep_reporting)
        jobs.start_soon(_alone, duty, partial(_once, house, resources, current, validations, duty=duty))
        async with trio.open_nursery() as serving:
            every = routes(front)
            early = Early(front, every, counters.told_early)
            jobs.start_soon(front.limits.rotation.run)
            outermost = application(every, counters)
            asgi = front.limits.rotation.around(outermost)
            listening = partial(listen, asgi, house.settings, [*secure, *plain], house.ending, early=early)
            refusing = answering(front, outermost)
            await serving.start(partial(listening, issuers=lambda: presented.trusted, answering=refusing))
            # After the listener's own instrument, whose sending is part of the round.
            trio.lowlevel.add_instrument(Rounds(front.limits.round_took))
            await link.ready(announcement(house, facts, current()))
            await house.ending.wait()
            house.turns.leave()
        await link.report()
        logger.info("a worker ended", extra={"worker": told.slot, **counters.facts()})
        jobs.cancel_scope.cancel()


async def _alone(duty: Duty, work: Callable[[trio.Nursery], None]) -> None:
    """Let `work` start its tasks whenever the turn is ours, and end them when it is not; ends by cancellation only."""
    while True:
        await duty.take()
        logger.debug("what is done once is done by this worker")
        async with trio.open_nursery() as nursery:
            work(nursery)
            await duty.lost()
            nursery.cancel_scope.cancel()


def _once(
    house: House,
    resources: Resources,
    current: Current,
    validations: Validations,
    nursery: trio.Nursery,
    *,
    duty: Duty,
) -> None:
    """The jobs of one worker at a time. The others' lists are claimed in the store, one by one (`jobs.publication`)."""
    shared = house.settings.store_url.startswith("postgres")
    nursery.start_soon(recover_overdue, resources)
    nursery.start_soon(partial(recover_abandoned, resources, duty.gone, patience=AWAY_SECONDS if shared else 0.0))
    nursery.start_soon(sweep, resources)
    nursery.start_soon(keep_listener_certificate, house.settings, lambda: listener_issuer(current()), house.link.renew)
    patience = ELSEWHERE_SECONDS if shared else 0.0
    nursery.start_soon(partial(take_up_abandoned, resources, validations, house.link.validating, patience=patience))


def _trusted(snapshot: Catalogue) -> frozenset[bytes]:
    """The authorities that issue, whose certificates clients are asked for."""
    return frozenset(each for pair in snapshot.pairs for each in acceptable(pair.authority, snapshot.authorities))


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


def announcement(house: House, facts: Quickstart, snapshot: Catalogue) -> str:
    """The greeting, with the line that scripts wait for. The first worker writes `quickstart.json` and closes a first
    start before it is said.
    """
    if not house.orders.first:
        return "ready\n"
    quickstart.write(house.folder, facts)
    folder.finish(house.folder)
    demo = snapshot.pair(APPLICATION, SERVERS)
    port = 80 if demo is None or demo.settings.acme is None else demo.settings.acme.http01_port
    greeting = quickstart.greeting(facts, house.folder, port, may_listen=sockets.may_listen(port))
    return f"{greeting}\nready {sockets.origin('https', house.settings.https, house.https)}\n"


def _sentence(refused: BaseExceptionGroup[CannotStart]) -> str:
    one: BaseException = refused
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return str(one)
