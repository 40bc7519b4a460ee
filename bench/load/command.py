"""The command line of `python -m bench.load`: words into a fleet and plans. Secrets come by file or by environment.

May not happen here: a connection, and a secret as an argument, where everybody on the machine could read it. A mistake
is one sentence that names the option.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench import values
from bench.load import eab
from bench.load.acme import Acme
from bench.load.arrivals import Arrivals, Closed, Open
from bench.load.conversation import Origin
from bench.load.est import Est
from bench.load.fleet import Fleet
from bench.load.ocsp import Ocsp
from bench.load.requests import ANY_NAME, csr, elliptic, names
from bench.load.rest import Rest
from bench.load.run import Plan
from bench.load.scep import CIPHERS, DIGESTS, Scep
from bench.load.trust import Trust

# argparse has no public name for what `add_subparsers` gives.
Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001, see above

OPEN_CLIENTS: Final = 100
CLOSED_CLIENTS: Final = 16

_EXAMPLES: Final = {
    "acme": """examples:
  # a server on this machine that validates at port 5002; orders for localhost, 16 accounts, closed loop
  python -m bench.load acme --directory https://localhost:14000/dir --ca pebble.minica.pem --http01-port 5002
  # 200 issuances a second whoever waits, every order for a new name, with external account binding
  LOAD_EAB_HMAC=... python -m bench.load acme --directory https://ca.example/acme/directory --eab-kid kid-1 \\
      --names 'h{n}.load.example' --http01-host 0.0.0.0 --http01-port 80 --rate 200 --seconds 60 --processes 2""",
    "est": """examples:
  python -m bench.load est --server https://ca.example/.well-known/est --label devices --ca root.pem \\
      --user load --passphrase-file passphrase
  # a full handshake and a client certificate each time, at rising rates
  python -m bench.load est --server https://ca.example/.well-known/est --certificate client.pem --key client.key \\
      --handshake-each --rate 50 --rate 100 --rate 200 --json est.json""",
    "scep": """examples:
  LOAD_CHALLENGE=... python -m bench.load scep --url http://ca.example/scep/devices/router --rate 100
  python -m bench.load scep --url http://localhost:8080/scep --challenge-file challenge --open-answers --get""",
    "rest": """examples:
  python -m bench.load rest --url https://ca.example/api/v1/cert-manager --token-file token \\
      --application fleet --profile tls-server --pid 4711
  python -m bench.load rest --url ... --server-key EC_prime256v1""",
    "ocsp": """examples:
  python -m bench.load ocsp --url http://ca.example/ocsp/issuing --issuer issuing.pem --certificate leaf.pem --rate 500
  python -m bench.load ocsp --url ... --issuer ... --certificate ... --nonce""",
}
_RULES: Final = """A closed loop (--clients alone) shows what the server can do, an open loop (--rate) how long
clients wait at a rate: waits are measured from when a request was due. Load a server only if it is yours."""
_STATUS: Final = """exit status: 0 where each run completed something, and nothing was late, failed or lost (told
to wait, 503 or 429, is none of these); 1 where not; 2 where it could not begin; 130 where it was interrupted"""


class WrongOption(ValueError):
    """One sentence for whoever typed the command."""


class Parser(argparse.ArgumentParser):
    """One whose mistakes are a sentence, not a page of usage with the sentence below it."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongOption."""
        raise WrongOption(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """What the command line may say. Its `parse_args` raises WrongOption."""
    made = Parser(
        prog="python -m bench.load",
        description=f"Drive a server of a certificate enrollment protocol. {_RULES}",
        epilog=f"python -m bench.load PROTOCOL --help shows its options, with examples\n\n{_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    protocols = made.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL")
    _acme(protocols)
    _est(protocols)
    _scep(protocols)
    _rest(protocols)
    _ocsp(protocols)
    return made


def fleet(options: argparse.Namespace, key_authorizations: str = "") -> Fleet:
    """The clients that were asked for; `key_authorizations` is where a responder listens. Raises WrongOption."""
    trust = _trust(options)
    make: Callable[[argparse.Namespace, Trust, str], Fleet] = _FLEETS[options.protocol]
    return make(options, trust, key_authorizations)


def plans(options: argparse.Namespace) -> list[Plan]:
    """A run for each rate, or one closed loop. Raises WrongOption."""
    rates: list[float] = options.rate or []
    clients = options.clients or (OPEN_CLIENTS if rates else CLOSED_CLIENTS)
    if clients < options.processes:
        raise WrongOption("--clients: each of --processes needs one at least")
    ways: list[Arrivals] = [Open(rate, options.even) for rate in rates]
    return [Plan(way, clients, options.processes, options.seconds, options.warm_up) for way in ways or [Closed()]]


def _acme(protocols: Subparsers) -> None:
    made = _protocol(protocols, "acme", "ACME (RFC 8555): newOrder to download, an account each client")
    made.add_argument("--directory", metavar="URL", type=_url, required=True, help="the server's directory")
    made.add_argument("--eab-kid", metavar="ID", default="", help="external account binding: the key's id")
    _secret(made, "eab-hmac", "LOAD_EAB_HMAC", "the binding's key, base64url")
    made.add_argument("--contact", metavar="URL", default="", help="the accounts' contact: mailto:somebody@example.com")
    made.add_argument(
        "--http01-port", metavar="PORT", type=values.port, help="answer http-01 here; without it none is expected"
    )
    made.add_argument("--http01-host", metavar="HOST", default="localhost", help="where to answer (default localhost)")
    made.add_argument(
        "--poll",
        metavar="SECONDS",
        type=values.seconds_or_none,
        default=0.01,
        help="between two looks (default 0.01)",
    )
    made.add_argument("--only-read", action="store_true", help="the work is one POST-as-GET of an order")
    _names(made, "localhost")


def _est(protocols: Subparsers) -> None:
    made = _protocol(protocols, "est", "EST (RFC 7030): simpleenroll with a new name each time")
    made.add_argument(
        "--server", metavar="URL", type=_url, required=True, help="with its path: https://HOST/.well-known/est"
    )
    made.add_argument("--label", metavar="L", default="", help="an additional path segment (RFC 7030, 3.2.2)")
    made.add_argument("--user", metavar="NAME", default="", help="HTTP Basic; without it the certificate speaks")
    _secret(made, "passphrase", "LOAD_PASSPHRASE", "the user's passphrase")
    made.add_argument("--handshake-each", action="store_true", help="a new connection, and a full handshake, each time")
    made.add_argument("--open-answers", action="store_true", help="parse each certificate; costs the driver")
    _names(made, ANY_NAME)


def _scep(protocols: Subparsers) -> None:
    made = _protocol(protocols, "scep", "SCEP (RFC 8894): PKCSReq with RSA-2048, each in a new transaction")
    made.add_argument("--url", metavar="URL", type=_url, required=True, help="what ?operation= is appended to")
    _secret(made, "challenge", "LOAD_CHALLENGE", "the challengePassword; empty: none")
    made.add_argument("--ca-identifier", metavar="ID", default="", help="the message of GetCACert")
    made.add_argument("--digest", choices=sorted(DIGESTS), default="sha256", help="(default sha256)")
    made.add_argument("--cipher", choices=sorted(CIPHERS), default="aes-128-cbc", help="(default aes-128-cbc)")
    made.add_argument("--get", action="store_true", help="send messages by GET instead of POST")
    made.add_argument("--open-answers", action="store_true", help="decrypt each reply; costs the driver a signature")
    _names(made, ANY_NAME)


def _rest(protocols: Subparsers) -> None:
    made = _protocol(protocols, "rest", "REST: POST /certificates with a CSR")
    made.add_argument("--url", metavar="URL", type=_url, required=True, help="the API's prefix, up to /certificates")
    _secret(made, "token", "LOAD_TOKEN", "the bearer token")
    made.add_argument("--application", metavar="NAME", required=True)
    made.add_argument("--profile", metavar="NAME", required=True)
    made.add_argument("--server-key", metavar="ALGORITHM", default="", help="no CSR: the server makes such a key")
    _names(made, ANY_NAME)


def _ocsp(protocols: Subparsers) -> None:
    made = _protocol(protocols, "ocsp", "OCSP (RFC 6960): the status of one certificate")
    made.add_argument("--url", metavar="URL", type=_url, required=True, help="the responder")
    made.add_argument("--issuer", metavar="FILE", required=True, help="the issuer's certificate, PEM or DER")
    made.add_argument("--certificate", metavar="FILE", required=True, dest="subject", help="the one asked about")
    made.add_argument("--nonce", action="store_true", help="by POST, with a new nonce each time; else by GET")
    made.set_defaults(certificate=None, key=None)


def _protocol(protocols: Subparsers, name: str, title: str) -> argparse.ArgumentParser:
    made = protocols.add_parser(
        name,
        help=title,
        description=f"{title}. {_RULES}",
        epilog=f"{_EXAMPLES[name]}\n\n{_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--rate", metavar="N", type=values.rate, action="append", help="arrivals a second: an open loop; a run each"
    )
    made.add_argument("--even", action="store_true", help="arrivals at even distances, not by chance")
    made.add_argument(
        "--clients", metavar="N", type=values.count, help=f"default {CLOSED_CLIENTS}, with --rate {OPEN_CLIENTS}"
    )
    made.add_argument("--processes", metavar="N", type=values.count, default=1, help="driver processes (default 1)")
    made.add_argument("--seconds", type=values.seconds, default=10.0, help="that count (default 10)")
    made.add_argument(
        "--warm-up", metavar="SECONDS", type=values.seconds_or_none, default=2.0, help="that do not (default 2)"
    )
    made.add_argument(
        "--pid",
        type=values.process,
        default=0,
        help="a server on this machine: its process tree's CPU is measured",
    )
    made.add_argument(
        "--json", metavar="FILE", type=values.writable_file, help="where the figures go, histograms included"
    )
    made.add_argument(
        "--ca", metavar="FILE", type=values.readable_file, help="trusted roots, PEM (default: the system's)"
    )
    made.add_argument("--insecure", action="store_true", help="believe any server certificate")
    if name != "ocsp":
        made.add_argument(
            "--certificate", metavar="FILE", type=values.readable_file, help="the clients' TLS certificate, PEM"
        )
        made.add_argument(
            "--key", metavar="FILE", type=values.readable_file, help="its key, PEM, if it is not in the same file"
        )
    return made


def _names(made: argparse.ArgumentParser, default: str) -> None:
    shown = default.replace("%", "%%")
    made.add_argument(
        "--names",
        metavar="PATTERN",
        type=_pattern,
        default=default,
        help=f"{{n}} becomes a number (default {shown})",
    )


def _url(text: str) -> str:
    try:
        Origin(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _pattern(text: str) -> str:
    """A pattern whose names a request can hold."""
    try:
        csr(elliptic(), next(names(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _trust(options: argparse.Namespace) -> Trust:
    """How TLS is done, tried once. Raises WrongOption."""
    authority, certificate, key = (str(each or "") for each in (options.ca, options.certificate, options.key))
    if key and not certificate:
        raise WrongOption("--key goes with --certificate, which is not there")
    try:
        Trust(authority).context()
    except OSError as error:
        raise WrongOption(f"--ca: {authority}: no PEM certificates ({error.strerror})") from None
    trust = Trust(authority, options.insecure, certificate, key)
    try:
        trust.context()
    except OSError as error:
        held = f"--certificate: {certificate}" + (f", --key: {key}" if key else "")
        raise WrongOption(f"{held}: no certificate with its key, PEM ({error.strerror})") from None
    return trust


def _secret(made: argparse.ArgumentParser, name: str, variable: str, what: str) -> None:
    made.add_argument(f"--{name}-file", metavar="FILE", help=f"{what}; or in {variable}")


def _told(options: argparse.Namespace, name: str, variable: str) -> str:
    """A secret out of its file or the environment; empty where neither is given. Raises WrongOption."""
    file: str | None = getattr(options, f"{name}_file")
    if file is None:
        return os.environ.get(variable, "")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongOption(f"--{name.replace('_', '-')}-file: {file}: {error}") from None


def _acme_fleet(options: argparse.Namespace, trust: Trust, key_authorizations: str) -> Fleet:
    secret = _told(options, "eab_hmac", "LOAD_EAB_HMAC")
    if bool(secret) != bool(options.eab_kid):
        raise WrongOption("--eab-kid and its key (--eab-hmac-file or LOAD_EAB_HMAC) go together")
    try:
        key = eab.mac_key(secret)
    except ValueError as error:
        raise WrongOption(f"--eab-hmac-file: {error}") from None
    return Acme(
        options.directory,
        trust,
        options.names,
        options.contact,
        options.eab_kid,
        key,
        key_authorizations,
        options.only_read,
        options.poll,
    )


def _est_fleet(options: argparse.Namespace, trust: Trust, _: str) -> Fleet:
    passphrase = _told(options, "passphrase", "LOAD_PASSPHRASE")
    if options.user and not passphrase:
        raise WrongOption("--user needs a passphrase: --passphrase-file or LOAD_PASSPHRASE")
    if not options.user and not trust.certificate:
        raise WrongOption("somebody must be named: --user or --certificate")
    url = options.server.rstrip("/") + (f"/{options.label}" if options.label else "")
    return Est(url, trust, options.user, passphrase, options.names, options.handshake_each, options.open_answers)


def _scep_fleet(options: argparse.Namespace, trust: Trust, _: str) -> Fleet:
    return Scep(
        options.url,
        trust,
        _told(options, "challenge", "LOAD_CHALLENGE"),
        options.names,
        options.ca_identifier,
        options.digest,
        options.cipher,
        options.get,
        options.open_answers,
    )


def _rest_fleet(options: argparse.Namespace, trust: Trust, _: str) -> Fleet:
    token = _told(options, "token", "LOAD_TOKEN")
    if not token:
        raise WrongOption("a token is needed: --token-file or LOAD_TOKEN")
    url = options.url.rstrip("/")
    return Rest(url, trust, token, options.application, options.profile, options.names, options.server_key)


def _ocsp_fleet(options: argparse.Namespace, trust: Trust, _: str) -> Fleet:
    subject, issuer = (_certificate(name, getattr(options, name)) for name in ("subject", "issuer"))
    return Ocsp(options.url, trust, subject, issuer, options.nonce)


def _certificate(name: str, file: str) -> bytes:
    """A certificate file as DER. Raises WrongOption."""
    option = {"subject": "--certificate", "issuer": "--issuer"}[name]
    try:
        data = Path(file).read_bytes()
        read = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
        return read(data).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise WrongOption(f"{option}: {file}: {error}") from None


_FLEETS: Final[dict[str, Callable[[argparse.Namespace, Trust, str], Fleet]]] = {
    "acme": _acme_fleet,
    "est": _est_fleet,
    "scep": _scep_fleet,
    "rest": _rest_fleet,
    "ocsp": _ocsp_fleet,
}


def url_options(options: argparse.Namespace) -> Sequence[str]:
    """What a record of the run may say of where it went."""
    return [str(getattr(options, name)) for name in ("directory", "server", "url") if hasattr(options, name)]
