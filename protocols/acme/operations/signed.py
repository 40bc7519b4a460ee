"""Admission of a signed request (RFC 8555, 6.2 to 6.5), with its checks in the order of A27.

Media type, size, parse, algorithm, key, signature, nonce, URL; the payload is left to the operation. Until the
signature has verified nothing is spent or written (A10).
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from protocols.acme.failures import BAD_NONCE, Failure
from protocols.acme.messages import Site
from protocols.acme.needs import FindAccount, SpendNonce
from protocols.acme.states import Account, AccountStatus
from protocols.exchange import Exchange, Malformed, ask
from protocols.jose import base64url, jwk, jws, strict

T = TypeVar("T")

LIMIT: Final = 64 * 1024
"""Octets of a body (A17): an order for a hundred names, or a CSR for them with an ML-DSA key, fits three times."""

_MEDIA_TYPE: Final = "application/jose+json"

# Letters, digits, hyphens and underscores, at most 64, one of them no punctuation.
_ID: Final = re.compile(r"(?=[-_]*+[A-Za-z0-9])[A-Za-z0-9_-]{1,64}+", re.ASCII)


class ByAccount(msgspec.Struct, frozen=True):
    """A request that is signed by a valid account's key."""

    account: Account
    payload: bytes


class ByKey(msgspec.Struct, frozen=True):
    """A request that is signed by a key that it carries."""

    key: jwk.Jwk
    payload: bytes


def by_account(site: Site, path: str, media_type: str | None, body: bytes) -> Exchange[ByAccount]:
    """Admit a request whose key is named by its account's URL (`kid`).

    Raises:
        Malformed: a `Failure` or `BadAlgorithm` included; see the order above.
    """
    message = _read(media_type, body)
    if message.kid is None:
        raise Malformed("The JWS has a jwk; this resource wants the kid of an account (RFC 8555, 6.2).", field="jwk")
    # The key id must be an account's URL of this very directory (A22).
    account, account_id = None, message.kid.removeprefix(site.account(""))
    if account_id != message.kid and is_id(account_id):
        account = yield from ask(FindAccount(account_id))
    if account is None:
        raise Failure("accountDoesNotExist", "The kid is not the URL of an account of this directory.")
    jws.verify(message, jwk.verifier(account.jwk))
    if account.status is not AccountStatus.VALID:
        raise Failure("unauthorized", f"The account is {account.status}.")
    yield from _fresh(site, path, message)
    return ByAccount(account, message.payload)


def by_key(site: Site, path: str, media_type: str | None, body: bytes) -> Exchange[ByKey]:
    """Admit a request that carries its key (`jwk`).

    Raises:
        Malformed: as `by_account`.
        Refused: BAD_KEY for a key that is not accepted (A24).
    """
    message = _read(media_type, body)
    if message.jwk is None:
        raise Malformed("The JWS has a kid; this resource wants the jwk of a key (RFC 8555, 6.2).", field="kid")
    key = jwk.parse(message.jwk)
    jws.verify(message, jwk.verifier(key.canonical))
    yield from _fresh(site, path, message)
    return ByKey(key, message.payload)


def payload(octets: bytes, kind: type[T]) -> T:
    """The payload of a request that says something.

    Raises:
        Malformed: not a JSON object (A26), or not of this form.
    """
    return strict.shape(strict.members(octets, field="payload"), kind, field="payload")


def expect_empty(octets: bytes) -> None:
    """A POST-as-GET has an empty payload (RFC 8555, 6.3).

    Raises:
        Malformed: any other, `{}` included (A25).
    """
    if octets:
        raise Malformed("To read this resource, send an empty payload (POST-as-GET, RFC 8555, 6.3).", field="payload")


def _read(media_type: str | None, body: bytes) -> jws.Jws:
    if media_type != _MEDIA_TYPE and not _is_jose(media_type):
        raise Failure("malformed", f"The Content-Type is not {_MEDIA_TYPE} (RFC 8555, 6.2).", status=415)
    if len(body) > LIMIT:
        raise Failure("malformed", f"The body has {len(body)} octets; at most {LIMIT} are accepted.", status=413)
    return jws.parse(body)


def _is_jose(media_type: str | None) -> bool:
    return media_type is not None and media_type.partition(";")[0].strip().lower() == _MEDIA_TYPE


def is_id(text: str) -> bool:
    """Whether text can be the id of anything: what cannot is not looked for."""
    return _ID.fullmatch(text) is not None


def _fresh(site: Site, path: str, message: jws.Jws) -> Exchange[None]:
    """Spend the nonce and compare the URL (RFC 8555, 6.4 and 6.5)."""
    if message.nonce is None:
        raise Failure("badNonce", f"{BAD_NONCE}: it has none.")
    if not (yield from ask(SpendNonce(message.nonce))):
        # RFC 8555, 6.5.2: not base64url is malformed, not badNonce. Looked at last: nobody makes such a nonce.
        base64url.decode(message.nonce, field="nonce")
        raise Failure("badNonce", f"{BAD_NONCE}; take the one from this answer's Replay-Nonce and sign again.")
    if message.url != f"{site.url}/{path}":
        raise Failure(
            "unauthorized", f"The JWS is for another URL than {site.url}/{path}, to which it was sent (RFC 8555, 6.4)."
        )
