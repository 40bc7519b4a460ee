"""Admission of a signed request (RFC 8555, 6.2 to 6.5), with its checks in the order of A27.

Media type, size, parse (`read`), then algorithm, key, signature, nonce, URL (`by_account`, `by_key`); the payload is
left to the operation. Until the signature has verified nothing is spent or written (A10).
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from protocols.acme.failures import BAD_NONCE, Failure
from protocols.acme.messages import Site
from protocols.acme.needs import AtHand
from protocols.acme.states import Account, AccountStatus
from protocols.exchange import Malformed
from protocols.jose import base64url, jwk, jws, strict

T = TypeVar("T")

LIMIT: Final = 64 * 1024
"""Octets of a body (A17): an order for a hundred names, or a CSR for them with an ML-DSA key, fits three times."""

_MEDIA_TYPE: Final = "application/jose+json"

# By name: to look a member up in its enumeration takes CPython 3.11 ten times as long.
_VALID: Final = AccountStatus.VALID

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


def read(media_type: str | None, body: bytes) -> jws.Jws:
    """A request as it came: nothing in it is believed yet.

    Raises:
        Malformed: a `Failure` or `BadAlgorithm` included; 415 and 413 before anything is parsed.
    """
    if media_type != _MEDIA_TYPE and not _is_jose(media_type):
        raise Failure("malformed", f"The Content-Type is not {_MEDIA_TYPE} (RFC 8555, 6.2).", status=415)
    if len(body) > LIMIT:
        raise Failure("malformed", f"The body has {len(body)} octets; at most {LIMIT} are accepted.", status=413)
    return jws.parse(body)


def account_id(site: Site, message: jws.Jws) -> str:
    """The id in an account's URL of this very directory, which is what a key id must be (A22).

    Raises:
        Malformed: no key id.
        Failure: accountDoesNotExist for any other key id.
    """
    kid, accounts = message.kid, site.accounts
    if kid is None:
        raise Malformed("The JWS has a jwk; this resource wants the kid of an account (RFC 8555, 6.2).", field="jwk")
    if not kid.startswith(accounts):
        raise no_account()
    return kid[len(accounts) :]


def no_account() -> Failure:
    """The key id names no account that is here."""
    return Failure("accountDoesNotExist", "The kid is not the URL of an account of this directory.")


def by_account(site: Site, path: str, message: jws.Jws, account: Account, host: AtHand) -> ByAccount:
    """Admit a request whose key is named by its account's URL (`kid`); `account` is the one that it names.

    Raises:
        Malformed: a `Failure` or `BadAlgorithm` included; see the order above.
    """
    jws.verify(message, jwk.verifier(account.jwk))
    if account.status is not _VALID:
        raise Failure("unauthorized", f"The account is {account.status}.")
    _fresh(site, path, message, host)
    return ByAccount(account, message.payload)


def by_key(site: Site, path: str, message: jws.Jws, host: AtHand) -> ByKey:
    """Admit a request that carries its key (`jwk`).

    Raises:
        Malformed: as `by_account`.
        Refused: BAD_KEY for a key that is not accepted (A24).
    """
    if message.jwk is None:
        raise Malformed("The JWS has a kid; this resource wants the jwk of a key (RFC 8555, 6.2).", field="kid")
    key = jwk.parse(message.jwk)
    jws.verify(message, jwk.verifier(key.canonical))
    _fresh(site, path, message, host)
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


def _is_jose(media_type: str | None) -> bool:
    return media_type is not None and media_type.partition(";")[0].strip().lower() == _MEDIA_TYPE


def is_id(text: str) -> bool:
    """Whether text can be the id of anything: what cannot is not looked for."""
    return _ID.fullmatch(text) is not None


def _fresh(site: Site, path: str, message: jws.Jws, host: AtHand) -> None:
    """Spend the nonce and compare the URL (RFC 8555, 6.4 and 6.5)."""
    if message.nonce is None:
        raise Failure("badNonce", f"{BAD_NONCE}: it has none.")
    if not host.spend(message.nonce):
        # RFC 8555, 6.5.2: not base64url is malformed, not badNonce. Looked at last: nobody makes such a nonce.
        base64url.decode(message.nonce, field="nonce")
        raise Failure("badNonce", f"{BAD_NONCE}; take the one from this answer's Replay-Nonce and sign again.")
    if message.url != f"{site.url}/{path}":
        raise Failure(
            "unauthorized", f"The JWS is for another URL than {site.url}/{path}, to which it was sent (RFC 8555, 6.4)."
        )
