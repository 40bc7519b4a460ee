"""What cannot work, said before any user starts: one sentence that names the option.

May not happen here: a connection. A server that is not there, or answers something else, is a run's finding.
"""

from __future__ import annotations

import math
import os
from typing import Final

from bench.load.conversation import Origin
from bench.load.trust import Trust
from bench.swarm.options import EST_PASSPHRASE, REST_TOKEN, Options, WrongOption, options

_PORT_MOST: Final = 65535


def from_environment(parsed: object) -> Options:
    """What was asked for, with the secrets of this process's environment, and nothing of it a mistake.

    Raises WrongOption.
    """
    told = options(parsed, os.environ)
    refuse(told)
    return told


def refuse(told: Options) -> None:
    """Raises WrongOption for the first mistake that these options have by themselves."""
    doors = told.doors()
    _urls(told)
    _numbers(told)
    _http01(told.acme_http01)
    _files(told)
    if "est" in doors and told.est_user and not (told.est_passphrase or told.est_certificate):
        raise WrongOption(f"--est-user goes with a passphrase: {EST_PASSPHRASE} or {EST_PASSPHRASE}_FILE")
    if "rest" in doors:
        needs = {
            f"a token ({REST_TOKEN} or {REST_TOKEN}_FILE)": told.rest_token,
            "--rest-application": told.rest_application,
            "--rest-profile": told.rest_profile,
        }
        if missing := [need for need, found in needs.items() if not found]:
            raise WrongOption(f"--rest-url goes with {', '.join(missing)}")


def _urls(told: Options) -> None:
    named = {
        "--acme-directory": told.acme_directory,
        "--est-url": told.est_url,
        "--scep-url": told.scep_url,
        "--rest-url": told.rest_url,
    }
    for option, url in named.items():
        # A request's line is words with spaces between them, in ASCII (RFC 9112, 3).
        if url and not (url.isascii() and url.isprintable() and " " not in url):
            raise WrongOption(f"{option}: {url!r} has something in it that no URL has")
        try:
            if url:
                Origin(url)
        except ValueError as error:
            raise WrongOption(f"{option}: {error}") from None


def _numbers(told: Options) -> None:
    if not (math.isfinite(told.pace) and told.pace >= 0):
        raise WrongOption(f"--pace: {told.pace:g} is no number of seconds; 0 is the least")
    if not 0 <= told.est_reenroll <= 1:
        raise WrongOption(f"--est-reenroll: {told.est_reenroll:g} is no share; it is from 0 to 1")


def _http01(address: str) -> None:
    port = address.rpartition(":")[2]
    if address and not (port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MOST):
        raise WrongOption(f"--acme-http01: {address!r} is no HOST:PORT with a port from 1 to {_PORT_MOST}")


def _files(told: Options) -> None:
    if told.est_key and not told.est_certificate:
        raise WrongOption("--est-key goes with --est-certificate")
    for option, path, trust in (
        ("--ca", told.ca, Trust(told.ca)),
        ("--est-certificate", told.est_certificate, Trust("", False, told.est_certificate, told.est_key)),
    ):
        try:
            if path:
                trust.context()
        except OSError as error:
            key = f" with --est-key {told.est_key}" if trust.key else ""
            raise WrongOption(f"{option}: {path}{key} cannot be used: {error.strerror or error}") from None
