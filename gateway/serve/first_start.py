"""A first start: the demo is declared, the administrator's token made, the root handed out.

Each step finds what an interrupted start has done already. The declaration goes through `actions.configure`, as
anyone's does; no key is made here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Final

from gateway.actions.configure import configure
from gateway.actions.mint import Bearer, mint, new_token
from gateway.domain.access import ApplicationRole, ProductRole
from gateway.domain.authority import Authority, AuthorityManifest
from gateway.domain.declaration.demo import demo
from gateway.domain.declaration.shape import AuthorityDeclaration
from gateway.fronts.front import Urls
from gateway.serve.ceremony import Manifest, der, described
from gateway.serve.folder import Folder, write_private
from gateway.serve.quickstart import APPLICATION, Secrets, read_token
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.store import catalogue
from gateway.store.unit import Store

ACTOR: Final = "system:first-start"
# A person types them at most once, and copies them otherwise; 120 bits need no lockout to be safe from guessing.
_SECRET_BYTES: Final = 15


async def declare(
    settings: Settings, made: Manifest, store: Store, urls: Urls, *, now: datetime, dice: Callable[[int], bytes]
) -> Secrets:
    """Declare the demo, with new secrets, and make the administrator. Raises `CannotStart` for a store in use."""
    folder = Folder(settings.data)
    await _refuse_another_house(made, store)
    passphrase, challenge = _secret(dice), _secret(dice)
    declaration = demo(
        passphrase=passphrase, challenge=challenge, http_url=urls.http, http01_port=settings.acme_http01_port or 80
    )

    async def ceremony(declared: AuthorityDeclaration, parent: Authority | None) -> AuthorityManifest:  # noqa: ARG001
        return _manifest(made, declared.name)

    await configure(store, declaration, ceremony=ceremony, actor=ACTOR, now=now, dice=dice)
    write_private(folder.root, made.root.certificate.encode())
    return Secrets(await _administrator(folder, store, now=now, dice=dice), passphrase, challenge)


async def _administrator(folder: Folder, store: Store, *, now: datetime, dice: Callable[[int], bytes]) -> str:
    """The first administrator's token: of the product, and of the demo."""
    # The file first: a token that is in the store and nowhere else would be lost.
    token = read_token(folder) or new_token(dice)
    write_private(folder.admin_token, token.encode() + b"\n")
    snapshot = await store.read(catalogue.load)
    roles = {each.id: ApplicationRole.ADMIN for each in snapshot.applications if each.name == APPLICATION}
    bearer = Bearer("admin", ProductRole.PRODUCT_ADMIN, roles)
    await mint(store, bearer, token, actor=ACTOR, now=now, dice=dice)
    return token


async def _refuse_another_house(made: Manifest, store: Store) -> None:
    """A new folder with somebody's store: its authorities have keys that this folder does not hold."""
    ours = {der(each.certificate) for each in (made.root, made.issuing)}
    for authority in (await store.read(catalogue.load)).authorities:
        if not authority.chain or authority.certificate not in ours:
            raise CannotStart(
                f"the store belongs to another data folder: the key of its authority {authority.name} is not in "
                "this one; choose that folder with --data, or an empty store with store.url"
            )


def _manifest(made: Manifest, name: str) -> AuthorityManifest:
    if name == "root":
        return AuthorityManifest(made.root.key, (der(made.root.certificate),))
    return described(made)


def _secret(dice: Callable[[int], bytes]) -> str:
    return base64.b32encode(dice(_SECRET_BYTES)).decode("ascii").lower()
