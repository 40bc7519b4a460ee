"""A house with ACME's door, a client of it, and the web server that the client's names lead to."""

import sqlite3
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from gateway.domain.application import AcmeSettings, EnrollmentSettings
from gateway.fronts.acme import acme_routes
from gateway.jobs.validations import validate_challenges
from tests.doubles.acme_client import AccountKey, AcmeClient, csr
from tests.doubles.house import open_house
from tests.doubles.webserver import plain, webserver


class Town:
    """A house, a client of it, and the web server that the client's names lead to."""

    def __init__(self, house, client):
        self.house = house
        self.client = client
        self.hold = None
        self.wrong = False

    async def page(self, path, stream):
        if self.hold is not None:
            await self.hold.wait()
        token = path.rpartition("/")[2]
        body = "wrong" if self.wrong else self.client.key_authorization(token)
        return plain(body.encode())

    async def settings(self, **changes):
        await self.house.change(acme=replace(self.house.pair.settings.acme, **changes))

    async def ready_order(self, *names):
        order = await self.client.order(*names)
        await self.client.prove(order.json)
        return order

    async def issue(self, *names, key=None):
        order = await self.ready_order(*names)
        return await self.client.post(order.json["finalize"], {"csr": csr(*names, key=key)})

    def rows(self, query, *parameters):
        with sqlite3.connect(self.folder / "store.db") as database:
            return database.execute(query, parameters).fetchall()


@asynccontextmanager
async def town(folder, *, key=None, validating=True):
    async with open_house(folder, acme_routes) as house, trio.open_nursery() as nursery:
        place = Town(house, AcmeClient(house.ask, key=AccountKey(key)))
        place.folder = folder
        async with webserver(place.page) as server:
            settings = AcmeSettings(
                skip_eab_binding=True, http01_port=server.port, allowed_networks=("127.0.0.0/8", "::1/128")
            )
            await house.change(acme=settings)
            await house.save(replace(house.other, settings=EnrollmentSettings(acme=settings)))
            if validating:
                await nursery.start(validate_challenges, house.resources, house.front.validations)
            place.server = server
            yield place
        nursery.cancel_scope.cancel()


class Counting:
    def __init__(self, store, write):
        self.read = store.read
        self.write = write
