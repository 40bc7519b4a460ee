"""The fleets that enroll at a gateway of our own, by what its data folder says of itself.

May not happen here: a measurement.
"""

from __future__ import annotations

from pathlib import Path

from bench.load.est import Est
from bench.load.rest import Rest
from bench.load.scep import Scep
from bench.load.trust import Trust
from bench.swarm.options import quickstart


def rest(data: Path) -> Rest:
    """REST clients of the demo application."""
    at = quickstart(data)
    return Rest(at.rest_url, Trust(at.ca), at.rest_token, at.rest_application, at.rest_profile)


def est(data: Path) -> Est:
    """EST clients of the demo application, by passphrase."""
    at = quickstart(data)
    return Est(at.est_url, Trust(at.ca), at.est_user, at.est_passphrase)


def scep(data: Path) -> Scep:
    """SCEP devices of the demo application."""
    at = quickstart(data)
    return Scep(at.scep_url, Trust(at.ca), at.scep_challenge)
