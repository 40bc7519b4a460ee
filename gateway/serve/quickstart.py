"""What a newcomer is told when the gateway is ready: its addresses, and one working command for each protocol.

The same facts stand in `quickstart.json` (0600). It is the one place that keeps the demo's EST passphrase and SCEP
challenge in the clear; the store has their hashes. Whoever deletes the file only loses the reminder.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import msgspec

from gateway.serve.folder import Folder, write_private

APPLICATION: Final = "demo"
# Two profiles are made. Servers come by ACME and REST; devices, whose certificates also authenticate clients (a
# simplereenroll needs that), by EST and SCEP.
SERVERS: Final = "tls-server"
DEVICES: Final = "device"
# Anyone may listen on it, and nothing of ours does.
FREE_PORT: Final = 8088


class Est(msgspec.Struct, frozen=True):
    """Where and with what a device enrolls over EST. `passphrase` is empty where nobody kept it."""

    url: str
    user: str
    passphrase: str


class Scep(msgspec.Struct, frozen=True):
    """Where and with what a device enrolls over SCEP. `challenge` is empty where nobody kept it."""

    url: str
    challenge: str


class Quickstart(msgspec.Struct, frozen=True, rename="camel"):
    """The facts. `root` is a file's path; `rest` is the API's prefix; URLs carry no trailing slash."""

    https: str
    http: str
    root: str
    admin_token: str
    application: str
    profile: str
    acme_directory: str
    est: Est
    scep: Scep
    rest: str
    pid: int


class Secrets(msgspec.Struct, frozen=True):
    """What only the person who set the demo up may know."""

    admin_token: str
    passphrase: str
    challenge: str


_DECODER: Final = msgspec.json.Decoder(Quickstart)


def earlier(folder: Folder) -> Quickstart | None:
    """What the last start left in the folder; None where it was deleted or cannot be read."""
    try:
        return _DECODER.decode(folder.quickstart.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def kept_secrets(folder: Folder, last: Quickstart | None) -> Secrets:
    """The secrets that the last start knew; empty texts where they were deleted."""
    if last is None:
        return Secrets(read_token(folder), "", "")
    return Secrets(read_token(folder), last.est.passphrase, last.scep.challenge)


def read_token(folder: Folder) -> str:
    """The administrator's token, or an empty text where its file was deleted."""
    try:
        return folder.admin_token.read_text().strip()
    except OSError:
        return ""


def facts(folder: Folder, secrets: Secrets, *, https: str, http: str, pid: int) -> Quickstart:
    """Put the facts together; `https` and `http` are the external URLs, `pid` the process that signals go to."""
    return Quickstart(
        https=https,
        http=http,
        root=str(folder.root),
        admin_token=secrets.admin_token,
        application=APPLICATION,
        profile=SERVERS,
        acme_directory=f"{https}/acme/{APPLICATION}/{SERVERS}/directory",
        est=Est(f"{https}/est/{APPLICATION}/{DEVICES}", "device", secrets.passphrase),
        scep=Scep(f"{http}/scep/{APPLICATION}/{DEVICES}", secrets.challenge),
        rest=f"{https}/api/v1/cert-manager",
        pid=pid,
    )


def write(folder: Folder, quickstart: Quickstart) -> None:
    """Write `quickstart.json`."""
    text = msgspec.json.format(msgspec.json.encode(quickstart), indent=2)
    write_private(folder.quickstart, text + b"\n")


def greeting(quickstart: Quickstart, folder: Folder, http01_port: int, *, may_listen: bool) -> str:
    """The text that is printed when the gateway is ready, but for its last line.

    `may_listen`: whether this user's certbot may listen on `http01_port`.
    """
    lines = [
        f"Muster serves {quickstart.https} (everything) and {quickstart.http} (SCEP, CRL, CA certificates, health).",
        f"Trust {quickstart.root}; the administrator's token is in {folder.admin_token}.",
        "Try it, in any folder of your own:",
        "",
        *([] if may_listen else [privileged(http01_port)]),
        "# ACME: certbot",
        certbot(quickstart, http01_port),
        "",
        "# EST: strongSwan",
        strongswan_est(quickstart),
        "",
        "# SCEP: strongSwan",
        strongswan_scep(quickstart),
        "",
        "# REST: curl",
        curl(quickstart, folder.admin_token),
        "",
    ]
    return "\n".join(lines)


def privileged(http01_port: int) -> str:
    """What to do where certbot cannot answer challenges as this user."""
    return (
        f"# certbot must listen on port {http01_port}, which this user may not: run the next command as root, or start"
        f" the gateway again\n# with --acme-http01-port {FREE_PORT} (make run ARGS='--acme-http01-port {FREE_PORT}')"
        " and run the command that it prints then."
    )


def certbot(quickstart: Quickstart, http01_port: int) -> str:
    """Obtain a certificate for this machine's own loopback name."""
    return (
        f"REQUESTS_CA_BUNDLE={shlex.quote(quickstart.root)} certbot certonly --standalone --non-interactive --agree-tos"
        f" --register-unsafely-without-email --server {quickstart.acme_directory} --http-01-port {http01_port}"
        " --config-dir certbot --work-dir certbot --logs-dir certbot -d localhost"
    )


def strongswan_est(quickstart: Quickstart) -> str:
    """Fetch the CA certificates, make a key and a request, enroll with the passphrase."""
    root = shlex.quote(quickstart.root)
    user = shlex.quote(f"{quickstart.est.user}:{quickstart.est.passphrase or 'PASSPHRASE'}")
    url = quickstart.est.url
    return (
        f"pki --estca --url {url} --cacert {root} --caout est-ca --outform pem --force"
        " && pki --gen --type ecdsa --size 256 --outform pem > est.key"
        " && pki --req --in est.key --type priv --dn CN=dev1 --san dev1.example --outform der > est.req"
        f" && pki --est --url {url} --in est.req --cacert {root} $(printf -- ' --cacert %s' est-ca*.pem)"
        f" --userpass {user} --interval 2 --maxpolltime 60 --outform pem > est.pem"
    )


def strongswan_scep(quickstart: Quickstart) -> str:
    """Fetch the CA and RA certificates, make an RSA key, enroll with the challenge."""
    challenge = shlex.quote(quickstart.scep.challenge or "CHALLENGE")
    url = quickstart.scep.url
    return (
        f"pki --scepca --url {url} --caout scep-ca --raout scep-ra --outform pem --force"
        " && pki --gen --type rsa --size 2048 --outform pem > scep.key"
        f" && pki --scep --url {url} --in scep.key --dn CN=dev2 --san dev2.example --password {challenge}"
        " --cacert-enc scep-ra.pem --cacert-sig scep-ra.pem $(printf -- ' --cacert %s' scep-ca*.pem)"
        " --cipher aes --digest sha256 --interval 2 --maxpolltime 60 --outform pem > scep.pem"
    )


def curl(quickstart: Quickstart, token: Path) -> str:
    """Let the gateway make the key and the certificate, as a token's owner."""
    body = (
        f'{{"applicationName": "{APPLICATION}", "profileName": "{SERVERS}",'
        ' "attributes": {"commonName": "api.example.com", "ttl": "90d", "keyAlgorithm": "EC_prime256v1",'
        ' "altNames": [{"type": "DNS", "value": "api.example.com"}]}}'
    )
    return (
        f"curl --silent --show-error --fail-with-body --cacert {shlex.quote(quickstart.root)}"
        f' --header "Authorization: Bearer $(cat {shlex.quote(str(token))})" --header "Content-Type: application/json"'
        f" --data '{body}' {quickstart.rest}/certificates"
    )
