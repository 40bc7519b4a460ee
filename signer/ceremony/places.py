"""One key on several tokens: places are added and removed here, after the key was proved there. No key is made.

How the same key comes onto another token is that token's matter: its backup, its cloning, or an import.
"""

from __future__ import annotations

import msgspec

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import PublicKey
from signer.keystore.softkey import SoftKeyStore
from signer.keystore.token import LazyTokens


def add_place(store: SoftKeyStore, tokens: LazyTokens, name: str, where: TokenPlace) -> tuple[TokenPlace, ...]:
    """Let a key be served by one more token, which is proved to have it; gives all its places, in order.

    `where` may leave the label and id empty: then they are those of the first place. Raises `KeyStoreError`.
    """
    facts = store.facts(name)
    first = _first(name, facts.everywhere)
    if not where.label and not where.id:
        where = msgspec.structs.replace(where, label=first.label, id=first.id)
    if _same(where, facts.everywhere):
        return facts.everywhere
    public_key = store.chain(name)[0].public_key()
    if not isinstance(public_key, PublicKey):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token holds keys such as {type(public_key).__name__}")
    tokens.find(where, public_key)
    places = (*facts.everywhere, where)
    store.replace(name, places=places)
    return places


def remove_place(store: SoftKeyStore, name: str, where: TokenPlace) -> tuple[TokenPlace, ...]:
    """Let a key be served no longer by that token; gives the places that are left. No token is asked.

    Raises `KeyStoreError`: MISSING where it is not served by that one, UNSUPPORTED where it is served by no other.
    """
    places = store.facts(name).everywhere
    _first(name, places)
    left = tuple(each for each in places if not _on(each, where))
    if len(left) == len(places):
        sentence = f"the key {name} is not served by the token {where.token or where.serial}"
        raise KeyStoreError(StoreFailure.MISSING, sentence)
    if not left:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"that is the only place of the key {name}")
    store.replace(name, places=left)
    return left


def _first(name: str, places: tuple[TokenPlace, ...]) -> TokenPlace:
    if not places:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} rests in software, on no token")
    return places[0]


def _same(where: TokenPlace, places: tuple[TokenPlace, ...]) -> bool:
    return any(_on(each, where) for each in places)


def _on(place: TokenPlace, where: TokenPlace) -> bool:
    return (place.module, place.token, place.serial) == (where.module, where.token, where.serial)
