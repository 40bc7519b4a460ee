"""What can be said to `muster authority`: its verbs, their flags, and examples. Nothing is done here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from gateway.cli.flags import add_settings

EXAMPLES: Final = """\
examples:
  muster authority create corp-root --subject 'CN=Example Root,O=Example' --path-length 1 --algorithm EC_secp384r1
  muster authority create devices --subject 'CN=Example Devices CA,O=Example' --parent corp-root --scep \\
      --permit dns_name:devices.example.com --permit ip_address:10.0.0.0/8 --policy 1.3.6.1.4.1.99999.1
      a root and, below it, an authority for devices of these names alone
  muster authority create vault --subject CN=Vault --module /usr/lib/softhsm/libsofthsm2.so --token ca
      the same with its key on a PKCS#11 token; signer.pkcs11-module and signer.token say it for all

  muster authority request issuing-2 --subject 'CN=Example Issuing 2' --csr issuing-2.csr
  muster authority install issuing-2 issuing-2-and-chain.pem
      an authority that somebody else certifies: its request out, its certificate and chain in

  muster authority import old-ca --pkcs12 old-ca.p12              asks for the passphrase
  muster authority import old-ca --key old-ca.key --chain old-ca-chain.pem --passphrase-file secret.txt

  muster authority renew devices --days 1825                      same key, new certificate; all below it follow
  muster authority rekey devices                                  new key, as devices-g2, to which the profiles move
  muster authority add-token devices --module /usr/lib/hsm.so --token second
      its key is served by a second token too, onto which it was cloned; remove-token takes one off
  muster authority list
  muster authority show devices

It works beside a running gateway, which follows within a second, and without one. Each ceremony prints its transcript
(--transcript FILE keeps it, for witnesses to sign) and asks before it begins; --yes answers.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the verbs, their flags and the examples."""
    parser.epilog = EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _create(_verb(verbs, "create", "make a root, or an authority below another", ceremony=True))
    _request(_verb(verbs, "request", "make a key and a request for somebody else to sign", ceremony=True))
    install = _verb(verbs, "install", "take the certificate that somebody else signed", ceremony=True)
    install.add_argument("certificates", type=Path, metavar="FILE", help="PEM: its certificate, then up to the root")
    _scep(install)
    _token(install)
    _import(_verb(verbs, "import", "take over an authority with its key", ceremony=True))
    renew = _verb(verbs, "renew", "give it a new certificate for the same key", ceremony=True)
    renew.add_argument("--days", type=count, metavar="N", help="how long (default: as long as the one before)")
    renew.add_argument("--csr", type=Path, metavar="FILE", help="where the request goes, if somebody else signs it")
    renew.add_argument("--scep", action="store_true", help="renew the certificate of its SCEP key instead")
    rekey = _verb(verbs, "rekey", "make a successor with a new key and the same subject", ceremony=True)
    rekey.add_argument("--as", dest="new", metavar="NEW-NAME", help="the successor's name (default NAME-g2, -g3, ...)")
    rekey.add_argument("--algorithm", metavar="ALGORITHM", help="of the new key (default: as the old one's)")
    _token(rekey)
    add = _verb(verbs, "add-token", "let its key be served by one more token, which has it already", ceremony=False)
    _place(add)
    add.add_argument("--label", default="", help="the key's label there (default, with its id: as on its first token)")
    _place(_verb(verbs, "remove-token", "let its key be served by a token no longer", ceremony=False))
    _verb(verbs, "disable", "let it issue no more; its revocation list and OCSP go on", ceremony=False)
    _verb(verbs, "enable", "let it issue again", ceremony=False)
    listing = verbs.add_parser("list", help="name them all", description="Names all authorities.")
    add_settings(listing, "data")
    _verb(verbs, "show", "say everything of one, and where its key rests", ceremony=False)


def count(text: str) -> int:
    """A whole number from 1 to 36500: dates end with the year 9999."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 36500):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, 1 to 36500")
    return int(text)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    meaning: str,
    *,
    ceremony: bool,
) -> argparse.ArgumentParser:
    one = verbs.add_parser(
        name, help=meaning, description=meaning, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    one.add_argument("name", metavar="NAME", help="the authority's name, as it stands in addresses")
    if ceremony:
        one.add_argument("--yes", action="store_true", help="do not ask whether to")
        one.add_argument("--transcript", type=Path, metavar="FILE", help="keep the ceremony's transcript in a new file")
    add_settings(one, "data", "external-http-url")
    return one


def _create(one: argparse.ArgumentParser) -> None:
    _subject(one)
    one.add_argument("--parent", metavar="NAME", help="the authority that certifies it; without one it is a root")
    one.add_argument("--days", type=count, metavar="N", help="how long (default: a root 20 years, others 10)")
    one.add_argument("--leaf-days", type=count, metavar="N", help="the longest that it ever signs (default 1827)")
    _scep(one)
    _urls(one)
    _token(one)


def _request(one: argparse.ArgumentParser) -> None:
    _subject(one)
    one.add_argument("--csr", type=Path, metavar="FILE", help="where the request goes (default: standard output)")
    _urls(one)
    _token(one)


def _import(one: argparse.ArgumentParser) -> None:
    where = one.add_mutually_exclusive_group(required=True)
    where.add_argument("--pkcs12", type=Path, metavar="FILE", help="key, certificate and chain")
    where.add_argument("--key", type=Path, metavar="FILE", help="PEM private key, encrypted or not; with --chain")
    one.add_argument("--chain", type=Path, metavar="FILE", help="PEM: its certificate, then up to the root")
    secret = one.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file", type=Path, metavar="FILE", help="its first line is the passphrase")
    secret.add_argument("--passphrase-env", metavar="NAME", help="the variable that holds the passphrase")
    secret.add_argument("--no-passphrase", action="store_true", help="there is none; do not ask for it")
    _scep(one)
    _urls(one)
    _token(one)


def _subject(one: argparse.ArgumentParser) -> None:
    one.add_argument("--subject", metavar="NAME", help="such as 'CN=Example CA,O=Example' (default: CN and its name)")
    one.add_argument(
        "--algorithm",
        default="EC_prime256v1",
        metavar="ALGORITHM",
        help="RSA_3072, RSA_4096, EC_prime256v1, EC_secp384r1, EC_secp521r1, ED25519, ML-DSA-44, -65, -87"
        " (default EC_prime256v1)",
    )
    one.add_argument("--path-length", type=_depth, metavar="N", help="how many authorities may stand below it")
    one.add_argument(
        "--permit",
        action="append",
        default=[],
        metavar="TYPE:VALUE",
        help="names that it may certify: dns_name:example.com, ip_address:10.0.0.0/8, email:example.com; repeatable",
    )
    one.add_argument(
        "--exclude", action="append", default=[], metavar="TYPE:VALUE", help="names that it may not; repeatable"
    )
    one.add_argument("--policy", action="append", default=[], metavar="OID", help="a certificate policy; repeatable")
    one.add_argument("--cps", default="", metavar="URL", help="where the policies are written down")


def _urls(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--crl-url", action="append", default=[], metavar="URL", help="what it issues names instead of this gateway's"
    )
    one.add_argument(
        "--issuer-url", action="append", default=[], metavar="URL", help="the same: where its certificate is"
    )
    one.add_argument("--ocsp-url", action="append", default=[], metavar="URL", help="the same: its OCSP responder")
    one.add_argument("--no-urls", action="store_true", help="what it issues names no addresses at all")


def _token(one: argparse.ArgumentParser) -> None:
    one.add_argument("--token", metavar="LABEL", help="make its key on this PKCS#11 token (default: signer.token)")
    one.add_argument("--module", metavar="FILE", help="the token's module (default: signer.pkcs11-module)")
    one.add_argument("--software", action="store_true", help="make its key in software, whatever the settings say")


def _place(one: argparse.ArgumentParser) -> None:
    """Which token is meant; the settings' own token is nothing to this."""
    one.add_argument("--module", dest="at_module", required=True, metavar="FILE", help="the token's PKCS#11 module")
    one.add_argument("--token", dest="at_token", default="", metavar="LABEL", help="the token's label")
    one.add_argument(
        "--serial", dest="at_serial", default="", metavar="NUMBER", help="its serial number, beside or alone"
    )
    one.add_argument("--scep", action="store_true", help="the authority's SCEP key instead")


def _scep(one: argparse.ArgumentParser) -> None:
    one.add_argument("--scep", action="store_true", help="give it an RSA key for SCEP")


def _depth(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10")
    return int(text)
