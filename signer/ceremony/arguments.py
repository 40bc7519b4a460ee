"""The words that ceremonies understand on a command line. Nothing is held here, and no secret is ever such a word."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from signer.keystore.pin import HELP

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it


def add_verbs(verbs: Verbs) -> None:
    """Add every ceremony to a command line."""
    _first(verbs)
    _create(verbs)
    _request(verbs)
    _install(verbs)
    _import(verbs)
    _renew(verbs)
    _rekey(verbs)
    _places(verbs)
    show = verbs.add_parser("show", help="describe a key: certificate, ceiling, and where it rests")
    _keys(show)
    _name(show)
    show.set_defaults(pin=[])
    every = verbs.add_parser("list", help="describe all keys")
    _keys(every)
    every.set_defaults(pin=[])
    tls = verbs.add_parser("tls", help="make a new TLS certificate, in place of the one in --tls")
    _keys(tls)
    tls.add_argument("--tls", type=Path, required=True, help="the folder for key.pem and chain.pem")
    _pin(tls)
    tls.add_argument("--host", action="append", default=[], help="a name or address for the certificate; repeatable")
    tls.add_argument("--issuer", default="issuing", help="the authority that issues it (default issuing)")


def _first(verbs: Verbs) -> None:
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
    _addresses(first)


def _create(verbs: Verbs) -> None:
    authority = verbs.add_parser(
        "create-authority",
        help="make an authority",
        epilog="example: python -m signer create-authority --keys keys --name devices "
        "--subject 'CN=Devices CA,O=Example' --parent root --path-length 0 --with-ra < secret",
        description="Without --parent it is a root. What exists by that name is kept and shown if it is what was "
        "asked for, and never overwritten.",
    )
    _keys(authority)
    _name(authority)
    authority.add_argument("--parent", help="the name of the authority that certifies it")
    _shape(authority)
    _token(authority)
    _ra(authority)


def _request(verbs: Verbs) -> None:
    request = verbs.add_parser(
        "request",
        help="make a key for an authority that somebody else certifies, and a request (PKCS#10) for it",
        epilog="example: python -m signer request --keys keys --name devices --subject 'CN=Devices CA' < secret",
        description="The key waits for its certificate (see install). Asked again, the same request is given.",
    )
    _keys(request)
    _name(request)
    _shape(request)
    _token(request)


def _install(verbs: Verbs) -> None:
    install = verbs.add_parser(
        "install",
        help="give a key its certificate and chain from somebody else",
        epilog="example: (cat secret; cat chain.pem) | python -m signer install --keys keys --name devices",
        description="Certificates, PEM, from --certificate or after the secret on standard input, in any order, up to "
        "a self-signed root. All of them are checked first.",
    )
    _keys(install)
    _name(install)
    install.add_argument("--certificate", type=Path, help="a file with the certificates")
    _token(install)
    _ra(install)


def _import(verbs: Verbs) -> None:
    imports = verbs.add_parser(
        "import",
        help="take in an authority whose key was made elsewhere",
        epilog="example: (cat secret; echo passphrase) | python -m signer import --keys keys --name old "
        "--pkcs12 ca.p12",
        description="The passphrase is the second line of standard input, empty for none. With --module and --token "
        "the key is written to a token, and cannot be taken out again.",
    )
    _keys(imports)
    _name(imports)
    imports.add_argument("--pkcs12", type=Path, metavar="FILE", help="key and certificates")
    imports.add_argument("--key", type=Path, metavar="FILE", help="a private key, PEM or PKCS#8 DER")
    imports.add_argument("--chain", type=Path, metavar="FILE", help="certificates, PEM, in any order")
    _leaf_days(imports)
    _token(imports)
    _ra(imports)


def _renew(verbs: Verbs) -> None:
    renew = verbs.add_parser(
        "renew",
        help="a new certificate for the same key",
        epilog="example: python -m signer renew --keys keys --name issuing --days 3650 < secret",
        description="The chains of everything below follow. For an authority that was signed elsewhere there is a "
        "request again, for install. Asked again after an interruption, it is finished.",
    )
    _keys(renew)
    _name(renew)
    renew.add_argument("--days", type=count, help="validity (default: as long as before)")
    renew.add_argument("--parent", help="another authority above it, such as a root's new key")
    renew.add_argument(
        "--known",
        default="",
        metavar="SHA256",
        help="the certificate that shall be followed; where the key has another already, that one is given",
    )
    _addresses(renew)
    _token(renew)


def _rekey(verbs: Verbs) -> None:
    rekey = verbs.add_parser(
        "rekey",
        help="a new key in the place of an authority's",
        epilog="example: python -m signer rekey --keys keys --name root --as root-g2 < secret",
        description="Same subject, same parent. For a root the two keys certify each other (OldWithNew, NewWithOld). "
        "The old key stays, for its revocation lists.",
    )
    _keys(rekey)
    _name(rekey)
    rekey.add_argument("--as", dest="successor", required=True, metavar="NAME", help="the new key's name")
    rekey.add_argument("--algorithm", help="default: that of the old key")
    rekey.add_argument("--days", type=count, help="validity (default: as long as before)")
    rekey.add_argument("--parent", help="another authority above it, such as a root's new key")
    _addresses(rekey)
    _token(rekey)


def _places(verbs: Verbs) -> None:
    add = verbs.add_parser(
        "add-place",
        help="let a key be served by one more token that has it",
        epilog="example: python -m signer add-place --keys keys --name issuing --module /usr/lib/hsm.so --token b "
        "--pin file:pin < secret",
        description="The same key must be on that token already: by the token's own cloning or backup, or by an "
        "import. It is proved to be the one of the certificate. The first place that works signs.",
    )
    remove = verbs.add_parser("remove-place", help="let a key be served by a token no longer; no token is asked")
    for verb in (add, remove):
        _keys(verb)
        _name(verb)
        _token(verb)
    add.add_argument("--label", default="", help="the key's label there (default, with its id: as at its first place)")


def _shape(verb: argparse.ArgumentParser) -> None:
    """What an authority shall be."""
    verb.add_argument("--subject", required=True, help="a distinguished name, such as 'CN=Devices CA,O=Example'")
    verb.add_argument("--algorithm", default="EC_prime256v1", help="as in the REST API (default EC_prime256v1)")
    verb.add_argument("--path-length", type=int, help="how many authorities may stand below it")
    verb.add_argument("--days", type=count, help="validity (default: root 7300, others 3650)")
    _leaf_days(verb)
    types = "dns_name:example.com, ip_address:192.0.2.0/24, email:example.com, uri:example.com, directory:O=Example"
    verb.add_argument(
        "--permitted", action="append", default=[], metavar="TYPE:VALUE", help=f"names that it may sign: {types}"
    )
    verb.add_argument("--excluded", action="append", default=[], metavar="TYPE:VALUE", help="names that it may not")
    verb.add_argument("--policy", action="append", default=[], metavar="OID", help="a certificate policy; repeatable")
    verb.add_argument("--cps", default="", metavar="URL", help="where the policies are written down")
    _addresses(verb)


def _addresses(verb: argparse.ArgumentParser) -> None:
    for each, what in (("crl", "revocation list"), ("issuer", "certificate"), ("ocsp", "OCSP responder")):
        verb.add_argument(
            f"--{each}-url", action="append", default=[], metavar="URL", help=f"its parent's {what}; repeatable"
        )


def _leaf_days(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--leaf-days", type=count, default=1827, help="longest validity it signs (default 1827)")


def _ra(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--with-ra", action="store_true", help="make an RA's RSA key for SCEP too, named NAME-ra")


def _keys(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--keys", type=Path, required=True, help="the folder of keys")


def _name(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--name", required=True, help="the name by which the gateway asks for the key")


def _pin(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--pin", action="append", default=[], metavar="SOURCE", help=HELP)


def _token(verb: argparse.ArgumentParser) -> None:
    _pin(verb)
    verb.add_argument("--module", default="", help="a PKCS#11 module's file, to make the keys on a token")
    verb.add_argument("--token", default="", help="the token's label")
    verb.add_argument("--token-serial", default="", help="the token's serial number, beside the label or instead of it")


def count(text: str) -> int:
    """A number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
