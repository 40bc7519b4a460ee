"""What a run is told: where the servers are and who asks. Secrets come by environment or by file, never by argument.

May not happen here: a connection. A mistake is one sentence that names the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from bench.load import eab
from bench.load.trust import Trust

# What each secret is called in the environment; `NAME_FILE` names a file that holds it instead.
EST_PASSPHRASE: Final = "SWARM_EST_PASSPHRASE"
SCEP_CHALLENGE: Final = "SWARM_SCEP_CHALLENGE"
REST_TOKEN: Final = "SWARM_REST_TOKEN"
EAB_HMAC: Final = "SWARM_ACME_EAB_HMAC"

# A fleet as companies have them: servers by ACME, devices by SCEP, people's machines by EST, pipelines by REST.
MIX: Final[Mapping[str, int]] = {"acme": 8, "scep": 5, "est": 4, "rest": 3}


class WrongOption(ValueError):
    """One sentence for whoever typed the command."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that users need to know. An empty URL: there is no such user in this run."""

    acme_directory: str = ""
    acme_names: str = "localhost"
    acme_http01: str = ""
    acme_contact: str = ""
    eab_kid: str = ""
    eab_hmac: str = ""
    est_url: str = ""
    est_user: str = ""
    est_passphrase: str = ""
    est_certificate: str = ""
    est_key: str = ""
    scep_url: str = ""
    scep_challenge: str = ""
    rest_url: str = ""
    rest_token: str = ""
    rest_application: str = ""
    rest_profile: str = ""
    names: str = "h{number}.swarm.example"
    ca: str = ""
    insecure: bool = False
    est_reenroll: float = 0.0
    pace: float = 1.0
    mix: str = ""
    shape: str = "steady"

    def doors(self) -> dict[str, int]:
        """The protocols of this run and the weight of each. Raises WrongOption."""
        urls = {"acme": self.acme_directory, "scep": self.scep_url, "est": self.est_url, "rest": self.rest_url}
        weights = dict(_mix(self.mix) if self.mix else MIX)
        found = {door: weight for door, weight in weights.items() if urls[door] and weight}
        if missing := [door for door in weights if self.mix and weights[door] and not urls[door]]:
            raise WrongOption(f"--mix speaks of {missing[0]}, but nothing says where it is served")
        if not found:
            raise WrongOption(
                "no server: give --acme-directory, --est-url, --scep-url or --rest-url, or --muster-data FOLDER"
            )
        return found

    def trust(self) -> Trust:
        """Whom users believe, and the certificate that EST users show, where one was given."""
        return Trust(self.ca, self.insecure, self.est_certificate, self.est_key)


def options(parsed: object, environment: Mapping[str, str]) -> Options:
    """What was asked for: `parsed` has an attribute for each option. `--muster-data` fills in what was not said.

    Raises WrongOption.
    """
    data = str(getattr(parsed, "muster_data", "") or "")
    found = quickstart(Path(data)) if data else Options()
    secrets = {
        "est_passphrase": EST_PASSPHRASE,
        "scep_challenge": SCEP_CHALLENGE,
        "rest_token": REST_TOKEN,
        "eab_hmac": EAB_HMAC,
    }
    given: dict[str, str] = {field: secret(name, environment) for field, name in secrets.items()}
    for field in Options.__slots__:
        value = getattr(parsed, field, None)
        if isinstance(value, str) and value:
            given[field] = value
    said = {field: value for field, value in given.items() if value}
    numbers = {
        field: float(value)
        for field in ("pace", "est_reenroll")
        if isinstance(value := getattr(parsed, field, None), int | float)
    }
    found = replace(found, insecure=bool(getattr(parsed, "insecure", False)))
    found = replace(found, **said, **numbers)  # type: ignore[arg-type]  # texts and numbers, each for its own field
    # What follows brings its slash.
    found = replace(found, est_url=found.est_url.rstrip("/"), rest_url=found.rest_url.rstrip("/"))
    if bool(found.eab_kid) != bool(found.eab_hmac):
        raise WrongOption(f"--eab-kid and its key ({EAB_HMAC} or {EAB_HMAC}_FILE) go together")
    try:
        eab.mac_key(found.eab_hmac)
    except ValueError as error:
        raise WrongOption(f"{EAB_HMAC}: {error}") from None
    return found


def secret(name: str, environment: Mapping[str, str]) -> str:
    """A secret of the environment, or of the file that `NAME_FILE` names; empty without either."""
    if path := environment.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise WrongOption(f"{name}_FILE: {path} cannot be read: {error.strerror}") from None
    return environment.get(name, "")


class _Est(msgspec.Struct):
    url: str
    user: str
    passphrase: str


class _Scep(msgspec.Struct):
    url: str
    challenge: str


class _Quickstart(msgspec.Struct, rename="camel"):
    root: str
    admin_token: str
    application: str
    profile: str
    acme_directory: str
    est: _Est
    scep: _Scep
    rest: str


def quickstart(data: Path) -> Options:
    """The demo application of a Muster gateway, by the `quickstart.json` of its data folder. Raises WrongOption."""
    try:
        facts = msgspec.json.decode((data / "quickstart.json").read_bytes(), type=_Quickstart)
    except OSError as error:
        raise WrongOption(f"--muster-data: {data}/quickstart.json: {error.strerror}; is a gateway there?") from None
    except msgspec.DecodeError as error:
        raise WrongOption(f"--muster-data: {data}/quickstart.json: {error}") from None
    return Options(
        acme_directory=facts.acme_directory,
        est_url=facts.est.url if facts.est.passphrase else "",
        est_user=facts.est.user,
        est_passphrase=facts.est.passphrase,
        scep_url=facts.scep.url if facts.scep.challenge else "",
        scep_challenge=facts.scep.challenge,
        rest_url=facts.rest,
        rest_token=facts.admin_token,
        rest_application=facts.application,
        rest_profile=facts.profile,
        ca=facts.root,
    )


def _mix(text: str) -> dict[str, int]:
    weights = {}
    for part in text.split(","):
        door, equals, weight = part.strip().partition("=")
        if door not in MIX or not equals or not weight.isdigit():
            raise WrongOption(
                f"--mix: {part.strip()!r} is not one of acme, est, scep, rest with a weight: acme=8,est=4"
            )
        weights[door] = int(weight)
    return weights
