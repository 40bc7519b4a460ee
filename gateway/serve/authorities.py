"""Authorities from their first key to their successor: the ceremony in the signer, then one unit in the store.

It works beside a running gateway and without one. The signer's step comes first and is found again by a second run, so
an interruption costs nothing but that run. No key is read here.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from gateway.actions import adopt, certify
from gateway.actions.adopt import Urls
from gateway.actions.certify import By
from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus
from gateway.domain.identifier import new_id
from gateway.domain.refusal import Refusal
from gateway.domain.succession import latest
from gateway.serve import ceremony, folder, quickstart
from gateway.serve.ceremony import Manifest, Place, Shown, Wish, described
from gateway.serve.folder import Folder
from gateway.serve.opening import now, opened_store
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.store import catalogue
from gateway.store.catalogue import Catalogue
from gateway.store.unit import EPOCH, Duplicate, Store
from protocols.exchange import Malformed

# Workers look at their keys' files once a second; until they have, a longer validity would be beyond what they know.
NOTICED: Final = 1.5  # seconds
_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
_GENERATION: Final = re.compile(r"(?P<name>.+?)-g(?P<number>[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Done:
    """What a ceremony came to: its transcript, sentences on what follows, and a request for somebody else to sign."""

    transcript: Sequence[str]
    said: Sequence[str]
    csr: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """An authority for people: `profiles` that issue from it, `successor` by name, where its key rests."""

    authority: Authority
    profiles: Sequence[str]
    parent: str
    successor: str
    predecessor: str
    key: Shown | None = None


@dataclass(frozen=True, slots=True)
class _Room:
    settings: Settings
    secret: str
    store: Store
    catalogue: Catalogue

    def free(self, name: str) -> None:
        if _NAME.fullmatch(name) is None:
            raise CannotStart(f'"{name}" is not a name: use 1 to 64 lower-case letters, digits and hyphens')
        if name.endswith("-delta"):
            raise CannotStart(f"{name}: an address that ends so is that of delta lists; use another name")
        if any(each.name == name for each in self.catalogue.authorities):
            raise CannotStart(f"there is an authority {name} already; see muster authority show {name}")

    def named(self, name: str) -> Authority:
        return certify.named(self.catalogue, name)

    def latest(self, authority: Authority) -> Authority:
        return latest(authority, {each.id: each for each in self.catalogue.authorities})

    def above(self, authority: Authority) -> Authority | None:
        """Who certifies it from now on: its parent, or who took that one's place; None if no other of ours."""
        found = [each for each in self.catalogue.authorities if each.id == authority.parent_id]
        return self.latest(found[0]) if found else None

    def owner(self, chain: Sequence[bytes]) -> str | None:
        """The id of our own authority that signed the first of these certificates, if one did."""
        above = [each.id for each in self.catalogue.authorities if each.chain and each.chain == tuple(chain[1:])]
        return above[0] if len(chain) > 1 and above else None


async def create(settings: Settings, wish: Wish, parent: str | None, urls: Urls | None) -> Done:
    """Make an authority below `parent` (or the one that took its place), or a root. Raises `CannotStart`."""
    async with _opened(settings) as room:
        room.free(wish.name)
        above = None if parent is None else room.latest(room.named(parent))
        if above is not None and above.status is not AuthorityStatus.ACTIVE:
            raise CannotStart(f"{above.name} is {above.status.value} and certifies nothing")
        made = await _ceremony(partial(ceremony.create, settings, room.secret, wish, above))
        new = adopt.generation(
            new_id(now(), secrets.token_bytes),
            wish.name,
            described(made),
            None if above is None else above.id,
            urls or own_urls(settings, wish.name),
        )
        await certify.record(room.store, new, "create", by=_by())
        return Done(made.transcript, [f"authority {new.name} is there: {new.subject}", *_use(new)])


async def request(settings: Settings, wish: Wish, urls: Urls | None) -> Done:
    """Make a key and a PKCS#10 request for an authority that somebody else certifies. Raises `CannotStart`."""
    async with _opened(settings) as room:
        waits = [each for each in room.catalogue.authorities if each.name == wish.name and not each.chain]
        if not waits:
            room.free(wish.name)
        made = await _ceremony(partial(ceremony.request, settings, room.secret, wish))
        if not waits:
            own = urls or own_urls(settings, wish.name)
            pending = Authority(
                id=new_id(now(), secrets.token_bytes),
                name=wish.name,
                kind=AuthorityKind.INTERMEDIATE,
                status=AuthorityStatus.PENDING_CERTIFICATE,
                key=made.issuing.key,
                subject=wish.subject,
                chain=(),
                key_algorithm=wish.algorithm,
                not_before=EPOCH,
                not_after=EPOCH,
                crl_urls=own.crl,
                issuer_urls=own.issuer,
                ocsp_urls=own.ocsp,
            )
            await certify.record(room.store, pending, "request", by=_by())
        after = [f"have it signed, then: muster authority install {wish.name} CERTIFICATE-AND-CHAIN.pem"]
        return Done(made.transcript, after, made.csr)


async def install(settings: Settings, name: str, certificates: Path, *, scep: bool) -> Done:
    """Give an authority the certificate that somebody else signed, with its chain. Raises `CannotStart`."""
    async with _opened(settings) as room:
        authority = room.named(name)
        verb = partial(ceremony.install, settings, room.secret, authority.key, certificates, scep=scep)
        made = await _ceremony(verb)
        if authority.chain:
            await _let_workers_notice(settings)
        manifest = described(made)
        parent_id = room.owner(manifest.chain)
        await certify.renew(room.store, name, manifest, "install", parent_id=parent_id, by=_by())
        return Done(made.transcript, [f"authority {name} has its certificate and issues", *_use(authority)])


async def take_over(settings: Settings, name: str, files: Sequence[str], passphrase: str, urls: Urls | None) -> Done:
    """Import an authority with its key; `files` are the signer's flags for where they stand. Raises `CannotStart`."""
    async with _opened(settings) as room:
        room.free(name)
        made = await _ceremony(partial(ceremony.take_over, settings, room.secret, name, files, passphrase))
        manifest = described(made)
        new = adopt.generation(
            new_id(now(), secrets.token_bytes),
            name,
            manifest,
            room.owner(manifest.chain),
            urls or own_urls(settings, name),
        )
        await certify.record(room.store, new, "import", by=_by())
        said = [f"authority {name} is there: {new.subject}", "destroy the files that it came from", *_use(new)]
        return Done(made.transcript, said)


async def renew(settings: Settings, name: str, days: int | None, *, scep: bool = False) -> Done:
    """A new certificate for the same key, and new chains for everything below. Raises `CannotStart`.

    `scep`: for its SCEP key instead. Below a root that has a successor, the successor signs.
    """
    async with _opened(settings) as room:
        authority = room.named(name)
        _refuse_pending(authority)
        key = authority.ra_key if scep else authority.key
        if key is None:
            raise CannotStart(f"{name} has no key for SCEP")
        above = None if scep else room.above(authority)
        known = (authority.ra_certificate if scep else authority.certificate) or b""
        verb = partial(ceremony.renew, settings, room.secret, key, days=days, parent=above, known=known)
        made = await _ceremony(verb)
        if made.csr:
            after = [f"have it signed, then: muster authority install {name} CERTIFICATE-AND-CHAIN.pem"]
            return Done(made.transcript, after, made.csr)
        await _let_workers_notice(settings)
        manifest = described(made)
        parent_id = authority.parent_id if above is None else above.id
        below = await certify.renew(room.store, name, manifest, "renew", parent_id=parent_id, by=_by())
        if scep:
            return Done(made.transcript, [f"the SCEP key of {name} has a new certificate"])
        said = [f"authority {name} has a new certificate; {below} authorities below it have the new chain"]
        if authority.kind is AuthorityKind.ROOT:
            _hand_out_root(settings, authority, [made.root.certificate])
            said.append("clients that trust the certificate before this one go on to; it ends when it said")
        return Done(made.transcript, said)


async def rekey(settings: Settings, name: str, new: str | None, algorithm: str | None) -> Done:
    """A new key under the same subject: an authority of its own, to which the profiles move. Raises `CannotStart`."""
    async with _opened(settings) as room:
        old = room.named(name)
        _refuse_pending(old)
        if old.successor_id is not None:
            raise CannotStart(f"{name} was succeeded by {room.latest(old).name}; rekey that one")
        new = new or next_generation(name)
        room.free(new)
        parent = room.above(old)
        made = await _ceremony(
            partial(ceremony.rekey, settings, room.secret, old, new, algorithm=algorithm, parent=parent)
        )
        urls = succeeding_urls(old, new, own_urls(settings, new))
        if made.csr:
            await certify.record(room.store, _waiting(old, new, algorithm, urls), "request", by=_by())
            after = [f"have it signed, then: muster authority install {new} CERTIFICATE-AND-CHAIN.pem"]
            return Done(made.transcript, [*after, f"{name} issues until then"], made.csr)
        manifest = described(made)
        parent_id = old.parent_id if parent is None else parent.id
        successor = adopt.generation(new_id(now(), secrets.token_bytes), new, manifest, parent_id, urls)
        successor = replace(successor, lists=old.lists)
        moved = await certify.succeed(room.store, name, successor, by=_by())
        said = [
            f"authority {new} took the place of {name}: {len(moved)} profiles moved" + _listed(moved),
            f"{name} issues no more; its revocation list and OCSP go on at {', '.join(old.crl_urls) or 'no address'}",
        ]
        if made.links:
            _hand_out_root(settings, old, [ceremony.pem(old.certificate), made.root.certificate])
            said.append("EST's /cacerts hands out both roots, OldWithNew and NewWithOld")
            said.append(f"what stands below {name} stays there; rekey it to move it below {new}")
        return Done(made.transcript, said)


async def serve_from(settings: Settings, name: str, where: Place, *, scep: bool, add: bool) -> Shown:
    """Let an authority's key, or that of its RA, be served by one more token, or by one less. Raises `CannotStart`.

    A running gateway's workers follow by themselves within about a second.
    """
    async with _opened(settings) as room:
        authority = room.named(name)
        key = authority.ra_key if scep else authority.key
        if key is None:
            raise CannotStart(f"{name} has no key for SCEP")
        act = ceremony.add_place if add else ceremony.remove_place
        shown = await _thread(partial(act, settings, room.secret, key, where))
        detail = f"key {key}, token {where.token or where.serial} through {where.module}"
        await certify.note(room.store, name, "add-token" if add else "remove-token", detail, by=_by())
        return shown


async def switch(settings: Settings, name: str, status: AuthorityStatus) -> None:
    """Let an authority issue, or stop it. Raises `CannotStart`."""
    async with _opened(settings) as room:
        await certify.switch(room.store, name, status, by=_by())


async def every(settings: Settings) -> list[Facts]:
    """All authorities, by name. Raises `CannotStart`."""
    async with _opened(settings) as room:
        return [_facts(room, each) for each in room.catalogue.authorities]


async def one(settings: Settings, name: str) -> Facts:
    """One authority, and where its key rests. Raises `CannotStart`."""
    async with _opened(settings) as room:
        authority = room.named(name)
        key = await _thread(partial(ceremony.show, settings, room.secret, authority.key))
        return replace(_facts(room, authority), key=key)


def own_urls(settings: Settings, name: str) -> Urls:
    """Where this gateway publishes an authority of that name. Raises `CannotStart` if nobody knows its address."""
    last = quickstart.earlier(Folder(settings.data))
    base = settings.external_http_url or (last.http if last is not None else "")
    if not base:
        raise CannotStart("nobody knows where plain HTTP is reached; say it: external-http-url, or --no-urls")
    return Urls((f"{base}/ca/{name}.crl",), (f"{base}/ca/{name}.crt",), (f"{base}/ocsp/{name}",))


def succeeding_urls(old: Authority, new: str, own: Urls) -> Urls:
    """The old authority's addresses with the new name in them; this gateway's own where the name was not in one.

    Two authorities cannot share the address of a list: a client would find the wrong signature there.
    """

    def moved(urls: tuple[str, ...], instead: tuple[str, ...]) -> tuple[str, ...]:
        names = re.compile(rf"/{re.escape(old.name)}(?![A-Za-z0-9_])(?!-g[0-9])")
        found = tuple(names.sub(f"/{new}", url) for url in urls)
        return instead if set(found) & set(urls) else found

    return Urls(moved(old.crl_urls, own.crl), moved(old.issuer_urls, own.issuer), moved(old.ocsp_urls, own.ocsp))


def _waiting(old: Authority, new: str, algorithm: str | None, urls: Urls) -> Authority:
    """A successor whose certificate somebody else is still to sign."""
    return replace(
        old,
        id=new_id(now(), secrets.token_bytes),
        name=new,
        key=new,
        status=AuthorityStatus.PENDING_CERTIFICATE,
        chain=(),
        key_algorithm=algorithm or old.key_algorithm,
        not_before=EPOCH,
        not_after=EPOCH,
        ra_key=None,
        ra_certificate=None,
        crl_urls=urls.crl,
        issuer_urls=urls.issuer,
        ocsp_urls=urls.ocsp,
        links=(),
        predecessor_id=old.id,
    )


def next_generation(name: str) -> str:
    """`devices-g2` after `devices`, `devices-g3` after `devices-g2`."""
    found = _GENERATION.fullmatch(name)
    return f"{name}-g2" if found is None else f"{found['name']}-g{int(found['number']) + 1}"


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[_Room]:
    secret = folder.require_complete(settings)
    async with opened_store(settings) as store:
        try:
            yield _Room(settings, secret, store, await store.read(catalogue.load))
        except Refusal as refusal:
            raise CannotStart(refusal.detail) from None
        except Malformed as fault:
            raise CannotStart(f"the signer made what cannot be read here: {fault.detail}") from None
        except Duplicate as duplicate:
            raise CannotStart(f"somebody else changed the same thing in this moment: {duplicate}") from None


async def _ceremony(verb: Callable[[], Manifest]) -> Manifest:
    return await trio.to_thread.run_sync(verb)


async def _thread(verb: Callable[[], Shown]) -> Shown:
    return await trio.to_thread.run_sync(verb)


async def _let_workers_notice(settings: Settings) -> None:
    try:
        folder.refuse_if_held(Folder(settings.data))
    except CannotStart:
        await trio.sleep(NOTICED)


def _hand_out_root(settings: Settings, before: Authority, instead: Sequence[str]) -> None:
    """`root.pem` follows the root that it holds; whoever copies it while one follows another trusts both."""
    file = Folder(settings.data).root
    held = ceremony.pem(before.certificate)
    if file.exists() and held.strip() in (text := file.read_text()):
        folder.write_private(file, text.replace(held.strip(), "".join(instead).strip()).encode())


def _refuse_pending(authority: Authority) -> None:
    if not authority.chain:
        raise CannotStart(f"{authority.name} waits for its certificate: muster authority install {authority.name}")


def _facts(room: _Room, authority: Authority) -> Facts:
    by_id = {each.id: each.name for each in room.catalogue.authorities}
    before = [each.name for each in room.catalogue.authorities if each.successor_id == authority.id]
    return Facts(
        authority,
        [each.slug for each in room.catalogue.profiles if each.authority_id == authority.id],
        by_id.get(authority.parent_id or "", ""),
        by_id.get(authority.successor_id or "", ""),
        ", ".join(before),
    )


def _use(authority: Authority) -> list[str]:
    if authority.kind is AuthorityKind.ROOT:
        return [f"authorities come below it: muster authority create NAME --parent {authority.name}"]
    return [f'a profile issues from it when its declaration says authority = "{authority.name}": muster apply --help']


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _by() -> By:
    return By(f"cli:{os.getuid()}", now(), secrets.token_bytes)
