"""The signer's command line: `serve` beside a gateway, and the ceremonies, which need no gateway. Wires only.

The unlock secret is always the first line of standard input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; gives the exit status."""
    asked = _parser().parse_args(arguments)
    verb: str = asked.verb
    if verb == "worker":
        from signer import worker

        return worker.main(asked.keys, asked.descriptor)
    if verb == "serve":
        from signer import supervisor

        return supervisor.main(asked.keys, asked.workers, asked.runtime, asked.pin)
    from signer import ceremony

    return ceremony.main(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m signer",
        description="Holds the keys. The unlock secret is read from the first line of standard input.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    serve = verbs.add_parser("serve", help="start workers; end with standard input or SIGTERM")
    _keys(serve)
    _pin(serve)
    serve.add_argument("--workers", type=_count, default=1, help="processes that sign (default 1)")
    serve.add_argument("--runtime", type=Path, help="a private folder for the sockets (default: a new one)")

    first = verbs.add_parser(
        "first",
        help="make a root, an issuing authority, an RA and a TLS certificate",
        epilog="example: python -m signer first --keys keys --tls tls --host gateway.example < secret",
        description="A ceremony that was interrupted can be run again: what exists is kept.",
    )
    _keys(first)
    first.add_argument("--tls", type=Path, required=True, help="the folder for key.pem and chain.pem")
    _token(first)
    first.add_argument("--host", action="append", default=[], help="a name or address for TLS; repeatable")

    authority = verbs.add_parser(
        "create-authority",
        help="make an authority",
        epilog="example: python -m signer create-authority --keys keys --name devices "
        "--subject 'CN=Devices CA,O=Example' --parent root --path-length 0 --with-ra < secret",
        description="Without --parent it is a root. An existing name is kept and shown, never overwritten.",
    )
    _keys(authority)
    authority.add_argument("--name", required=True, help="the name by which the gateway asks for the key")
    authority.add_argument("--subject", required=True, help="a distinguished name, such as 'CN=Devices CA,O=Example'")
    authority.add_argument("--algorithm", default="EC_prime256v1", help="as in the REST API (default EC_prime256v1)")
    authority.add_argument("--parent", help="the name of the authority that certifies it")
    authority.add_argument("--path-length", type=int, help="how many authorities may stand below it")
    authority.add_argument("--days", type=_count, help="validity (default: root 7300, others 3650)")
    authority.add_argument("--leaf-days", type=_count, default=1827, help="longest validity it signs (default 1827)")
    _token(authority)
    authority.add_argument("--with-ra", action="store_true", help="make an RA's RSA key for SCEP too, named NAME-ra")

    tls = verbs.add_parser("tls", help="make a new TLS certificate, in place of the one in --tls")
    _keys(tls)
    tls.add_argument("--tls", type=Path, required=True, help="the folder for key.pem and chain.pem")
    _pin(tls)
    tls.add_argument("--host", action="append", default=[], help="a name or address for the certificate; repeatable")
    tls.add_argument("--issuer", default="issuing", help="the authority that issues it (default issuing)")

    worker = verbs.add_parser("worker", help=argparse.SUPPRESS)  # started by serve alone
    worker.add_argument("keys")
    worker.add_argument("descriptor")
    return parser


def _keys(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--keys", type=Path, required=True, help="the folder of keys")


def _pin(verb: argparse.ArgumentParser) -> None:
    from signer.keystore.pin import HELP

    verb.add_argument("--pin", action="append", default=[], metavar="SOURCE", help=HELP)


def _token(verb: argparse.ArgumentParser) -> None:
    _pin(verb)
    verb.add_argument("--module", default="", help="a PKCS#11 module's file, to make the keys on a token")
    verb.add_argument("--token", default="", help="the token's label")
    verb.add_argument("--token-serial", default="", help="the token's serial number, beside the label or instead of it")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
