"""`locust -f bench/swarm/fleet.py`: the fleet. Which users run follows from which servers were named.

Secrets come by environment: SWARM_EST_PASSPHRASE, SWARM_SCEP_CHALLENGE, SWARM_REST_TOKEN, SWARM_ACME_EAB_HMAC, or a
file with the secret in it by the same name and `_FILE`. May not happen here: a protocol, a secret in an argument.
"""

from __future__ import annotations

import logging
import sys

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner

from bench.swarm.acme import AcmeUser
from bench.swarm.est import EstUser
from bench.swarm.member import Member
from bench.swarm.mistakes import from_environment
from bench.swarm.options import Options, WrongOption
from bench.swarm.ramp import Ramp
from bench.swarm.responder import Responder
from bench.swarm.rest import RestUser
from bench.swarm.scep import ScepUser
from bench.swarm.shapes import SHAPES, STEADY

__all__ = ["AcmeUser", "EstUser", "Ramp", "RestUser", "ScepUser"]  # what locust finds here

log = logging.getLogger("swarm")
_USERS: dict[str, type[Member]] = {"acme": AcmeUser, "scep": ScepUser, "est": EstUser, "rest": RestUser}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust's hooks have no types
def arguments(parser: LocustArgumentParser) -> None:
    """Our options beside locust's own."""
    text = {
        "muster-data": "data folder of a running Muster gateway: all doors of its demo application",
        "acme-directory": "URL of an ACME directory",
        "acme-names": "names of an order, with commas; {number} is another for each account (default localhost)",
        "acme-http01": "HOST:PORT where this machine answers http-01; without it orders must be ready at once",
        "acme-contact": "mailto:... of new accounts",
        "eab-kid": "key id of the external account binding; its MAC key is SWARM_ACME_EAB_HMAC, base64url",
        "est-url": "https://host/.well-known/est/LABEL, or wherever simpleenroll is",
        "est-user": "user of HTTP Basic; the passphrase is SWARM_EST_PASSPHRASE",
        "est-certificate": "PEM file of a client certificate that is shown instead, or as well",
        "est-key": "PEM file of its key, where that is another file",
        "scep-url": "URL of a SCEP server; the challenge is SWARM_SCEP_CHALLENGE",
        "rest-url": "prefix of Muster's REST API; the bearer token is SWARM_REST_TOKEN",
        "rest-application": "application to enroll for",
        "rest-profile": "profile to enroll with",
        "names": "host names by EST, SCEP, REST; {number} is another each time (default h{number}.swarm.example)",
        "ca": "PEM file of the roots to trust (default: the system's)",
        "mix": "weights, as acme=8,scep=5,est=4,rest=3 (the default, as far as servers are named)",
    }
    for name, help_text in text.items():
        parser.add_argument(f"--{name}", default="", metavar=name.rpartition("-")[2].upper(), help=help_text,
                           env_var=f"SWARM_{name.upper().replace('-', '_')}", include_in_web_ui=False)  # fmt: skip
    parser.add_argument("--insecure", action="store_true", help="believe any server's certificate")
    parser.add_argument(
        "--pace", type=float, default=1.0, help="seconds between a user's enrollments (default 1; 0: none)"
    )
    parser.add_argument(
        "--est-reenroll", type=float, default=0.0, help="share of EST enrollments renewed at once (0 to 1)"
    )
    parser.add_argument(
        "--shape", choices=SHAPES, default=STEADY, help="how many of --users there are when (default steady)"
    )


@events.init.add_listener  # type: ignore[untyped-decorator]  # the same
def prepare(environment: Environment, **_: object) -> None:
    """Read what was asked for, and keep the users that it is for. A mistake ends locust with one sentence."""
    try:
        told = from_environment(environment.parsed_options)
        doors = told.doors()
    except (WrongOption, OSError) as mistake:
        log.error("%s", mistake)  # noqa: TRY400, one sentence and no traceback
        sys.exit(2)
    _assign(environment, told, doors)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # the same
def keys(environment: Environment, **_: object) -> None:
    """Make keys before users begin, who behave as the web view's form says now, if it says what can be."""
    try:
        Member.told = from_environment(environment.parsed_options)
    except WrongOption as mistake:
        log.error("%s; all is as it was told before", mistake)  # noqa: TRY400, one sentence and no traceback
    Member.prepare()
    if ScepUser in environment.user_classes:
        ScepUser.prepare()


def _assign(environment: Environment, told: Options, doors: dict[str, int]) -> None:
    Member.told = told
    for door, weight in doors.items():
        _USERS[door].weight = weight
    environment.user_classes = [user for user in environment.user_classes if getattr(user, "door", "") in doors]
    log.info("the fleet: %s", ", ".join(f"{door} {weight}" for door, weight in doors.items()))
    if told.acme_http01 and "acme" in doors:
        _answer_http01(environment, told.acme_http01)


def _answer_http01(environment: Environment, address: str) -> None:
    """In every process that has users. A master has none; that of `--processes` is where its workers are, and can tell
    before they begin whether the address is to be had.
    """
    mastering = isinstance(environment.runner, MasterRunner)
    if mastering and not getattr(environment.parsed_options, "processes", None):
        return
    try:
        responder = Responder(address)
        if mastering:
            responder.stop()
        else:
            responder.start()
    except OSError as trouble:
        log.error("--acme-http01 %s: %s", address, trouble)  # noqa: TRY400, one sentence and no traceback
        sys.exit(2)
    if not mastering:
        Member.responder = responder
        environment.events.quitting.add_listener(lambda **_: responder.stop())  # type: ignore[no-untyped-call]  # the same
