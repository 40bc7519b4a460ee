"""`muster token`: PKCS#11 tokens, on which authorities' keys rest. The modules run in the signer's program alone."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from gateway.cli.flags import add_settings, settings
from gateway.serve.refusal import CannotStart

if TYPE_CHECKING:
    from gateway.serve.tokens import Module

_EXAMPLES: Final = """\
examples:
  muster token list                    the tokens of signer.pkcs11-module and of the modules in the usual places
  muster token list --module /usr/lib/opensc-pkcs11.so
  muster token init-softhsm            make a SoftHSM2 token in the data folder, to try things; serve finds it

Keys go on a token when signer.pkcs11-module, signer.token and a PIN are set: docs/configuration.md, "Keys on a token".
Bearer tokens for the REST API are made by: muster bearer create
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the examples."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser(
        "list",
        help="name the tokens of this machine",
        description="Names every token, and counts the keys on the one that the settings' PIN opens.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("--module", action="append", default=[], metavar="FILE", help="this module; repeatable")
    add_settings(listing, "data")
    soft = verbs.add_parser("init-softhsm", help="make a SoftHSM2 token in the data folder, to try things")
    add_settings(soft, "data")
    # What scripts and fingers remember; it is in no help.
    from gateway.cli.bearer import describe_create

    describe_create(verbs.add_parser("create"))


def run(options: argparse.Namespace) -> int:
    """Do what the words say."""
    match options.verb:
        case "list":
            return _list(options)
        case "init-softhsm":
            return _init(options)
        case _:
            from gateway.cli import bearer

            print("muster: bearer tokens are at home under muster bearer now; this works on", file=sys.stderr)
            return bearer.run(options)


def _list(options: argparse.Namespace) -> int:
    from gateway.serve.tokens import seen

    found = list(seen(settings(options), options.module))
    for module in found:
        _tell(module)
    if not found:
        raise CannotStart("no PKCS#11 module is in the usual places: name one with --module")
    return 0


def _tell(module: Module) -> None:
    if module.trouble:
        print(f"{module.module}: {module.trouble}")
        return
    print(f"{module.module}: {module.description} {module.version}")
    for token in module.tokens:
        named = f"token {token.label!r}" if token.label else "a slot for a new token"
        facts = [token.model, *([f"serial {token.serial}"] if token.serial else []), *token.states]
        if token.keys is not None:
            facts.append(f"{token.keys} private key{'' if token.keys == 1 else 's'}")
        if token.trouble:
            facts.append(token.trouble)
        print(f"  {named}: {', '.join(each for each in facts if each)}")
    if not module.tokens:
        print("  no token")


def _init(options: argparse.Namespace) -> int:
    from gateway.serve import folder, softhsm

    found = settings(options)
    softhsm.check(found)
    folder.inspect(found)  # refuses a folder that is somebody else's
    known = softhsm.place(found).pin.is_file()
    made = softhsm.make(found)
    print(f"the token {made.token!r} {'is there already' if known else 'is made'}: {softhsm.place(found).path}")
    print("muster serve and muster authority use it by themselves, with this data folder. The same as settings:")
    print(f"  export SOFTHSM2_CONF={softhsm.place(found).configuration}")
    print(f"  export MUSTER_SIGNER_PKCS11_MODULE={made.pkcs11_module} MUSTER_SIGNER_TOKEN={made.token}")
    print(f"  export MUSTER_SIGNER_PIN_FILE={made.pin_file}")
    print("It is for trying: whoever reads the folder has the PIN.", file=sys.stderr)
    return 0
