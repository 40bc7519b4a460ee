"""`muster token`: bearer tokens for the REST API. A new token is printed once, alone on standard output."""

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
  muster token create --name ci --application payments-api --role operator
      print a token with which the machine `ci` may issue, renew and revoke in payments-api
  muster token create --name backup --product-role product_admin --days 30
      print a token of an administrator that ends in 30 days

A token is shown once; the store keeps its hash. It works at once, in a running gateway too.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the examples."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = verbs.add_parser(
        "create", help="make a token", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    """Make a token and print it."""
    import trio

    print(trio.run(partial(_create, settings(options), options)))
    print("Keep it: it is not shown again.", file=sys.stderr)
    return 0


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
