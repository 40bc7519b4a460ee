"""`muster bearer`: bearer tokens for the REST API. A new token is printed once, alone on standard output."""

from __future__ import annotations

import argparse
import getpass
import secrets
import sys
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from gateway.cli.flags import add_settings, settings
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings

LONGEST_DAYS: Final = 36500
_EXAMPLES: Final = """\
examples:
  muster bearer create --name ci --application payments-api --role operator
      print a token with which the machine `ci` may issue, renew and revoke in payments-api
  muster bearer create --name backup --product-role product_admin --days 30
      print a token of an administrator that ends in 30 days
  muster bearer list
  muster bearer revoke 0192f0c1-...        the id is in the list; it works no more from then on

A token is shown once; the store keeps its hash. It works at once, in a running gateway too.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the examples."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    describe_create(
        verbs.add_parser(
            "create", help="make a token", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
    )
    add_settings(verbs.add_parser("list", help="name all tokens, with their ends and last uses"), "data")
    revoke = verbs.add_parser("revoke", help="end a token; returns when every gateway obeys")
    revoke.add_argument("id", metavar="ID", help="as in the list")
    add_settings(revoke, "data")


def describe_create(create: argparse.ArgumentParser) -> None:
    """Add the flags with which a token is made."""
    create.add_argument("--name", required=True, help="whose token it is; made if there is none of that name")
    create.add_argument("--application", metavar="NAME", help="the application to be a member of")
    create.add_argument(
        "--role", choices=["admin", "operator", "auditor"], default="operator", help="there (default operator)"
    )
    create.add_argument(
        "--product-role", choices=["product_admin", "product_member"], default="product_member", help="everywhere"
    )
    create.add_argument("--days", type=_days, default=365, help="until it ends; 0 for never (default 365)")
    add_settings(create, "data")


def run(options: argparse.Namespace) -> int:
    """Do what the words say."""
    import trio

    found = settings(options)
    # In the middle of the store's own work an interrupt would leave others waiting for an answer that never comes.
    awaited = partial(trio.run, restrict_keyboard_interrupt_to_checkpoints=True)
    match options.verb:
        case "list":
            for line in awaited(_list, found):
                print(line)
        case "revoke":
            print(f"a token of {awaited(_revoke, found, options.id)} works no more")
        case _:
            print(awaited(partial(_create, found, options)))
            print("Keep it: it is not shown again.", file=sys.stderr)
    return 0


async def _list(found: Settings) -> list[str]:
    from gateway.serve.folder import require_complete
    from gateway.serve.opening import opened_store
    from gateway.store import access

    require_complete(found)
    async with opened_store(found) as store:
        tokens = await store.read(access.every_token)
    return [
        f"{token.id}  {name}  made {_day(token.created_at)}, ends {_day(token.expires_at)},"
        f" last used {_day(token.last_used_at)}"
        for name, token in tokens
    ]


async def _revoke(found: Settings, token_id: str) -> str:
    import trio

    from gateway.actions.mint import end
    from gateway.actions.recent import LIFETIME
    from gateway.domain.refusal import Refusal
    from gateway.serve.folder import require_complete
    from gateway.serve.opening import now, opened_store

    require_complete(found)
    async with opened_store(found) as store:
        try:
            name = await end(store, token_id, actor=f"operator:{getpass.getuser()}", now=now())
        except Refusal as refusal:
            raise CannotStart(refusal.detail) from None
    # A gateway that read it just before believes it for that long; what this verb says is true when it says it.
    await trio.sleep(LIFETIME.total_seconds())
    return name


def _day(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d}"


async def _create(found: Settings, options: argparse.Namespace) -> str:
    from gateway.actions.mint import Bearer, mint, new_token
    from gateway.domain.access import ApplicationRole, ProductRole
    from gateway.domain.refusal import Refusal
    from gateway.serve.folder import require_complete
    from gateway.serve.opening import now, opened_store
    from gateway.store import catalogue

    require_complete(found)
    async with opened_store(found) as store:
        at = now()
        snapshot = await store.read(catalogue.load)
        ids = {application.name: application.id for application in snapshot.applications}
        if options.application is not None and options.application not in ids:
            raise CannotStart(f"there is no application {options.application}; there are: {', '.join(sorted(ids))}")
        roles = {ids[options.application]: ApplicationRole(options.role)} if options.application is not None else {}
        bearer = Bearer(options.name, ProductRole(options.product_role), roles, _end(at, options.days))
        token = new_token(secrets.token_bytes)
        actor = f"operator:{getpass.getuser()}"
        try:
            await mint(store, bearer, token, actor=actor, now=at, dice=secrets.token_bytes)
        except Refusal as refusal:
            raise CannotStart(refusal.detail) from None
        return token


def _days(text: str) -> int:
    """At most a century: dates end with the year 9999."""
    if not (text.isascii() and text.isdigit() and int(text) <= LONGEST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, 0 to {LONGEST_DAYS}")
    return int(text)


def _end(at: datetime, days: int) -> datetime | None:
    return at + timedelta(days=days) if days > 0 else None
