"""What `muster authority` does: settings and words into one call of `serve.authorities`, and the question before it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.cli.flags import settings
from gateway.serve.refusal import CannotStart

if TYPE_CHECKING:
    from gateway.actions.adopt import Urls
    from gateway.serve.authorities import Done
    from gateway.serve.ceremony import Wish
    from gateway.serve.settings import Settings

T = TypeVar("T")


def run(options: argparse.Namespace) -> int:
    """Do what the words say."""
    found = _placed(settings(options), options)
    match options.verb:
        case "list":
            _list(found)
        case "show":
            _show(found, options.name)
        case "enable" | "disable":
            _switch(found, options.name, on=options.verb == "enable")
        case "add-token" | "remove-token":
            _serve_from(found, options)
        case _:
            _hold(found, options)
    return 0


def _hold(found: Settings, options: argparse.Namespace) -> None:
    """One ceremony: what can be refused first, then the question, then the ceremony, then its transcript."""
    from gateway.serve.folder import require_complete

    require_complete(found)
    for file in (options.transcript, getattr(options, "csr", None)):
        if file is not None and file.exists():
            raise CannotStart(f"{file}: is there already; name a new file")
    act, question = _act(found, options)
    if not options.yes:
        _ask(question)
    done = _awaited(act)
    _keep(options.transcript, done)
    _hand_over(getattr(options, "csr", None), done.csr)
    for sentence in done.said:
        print(f"muster: {sentence}", file=sys.stderr)


def _act(found: Settings, options: argparse.Namespace) -> tuple[Callable[[], Awaitable[Done]], str]:
    from gateway.serve import authorities

    name: str = options.name
    match options.verb:
        case "create":
            below = f"below {options.parent}" if options.parent else "as a root, signed by itself"
            question = f"Make the authority {name} ({_subject(options)}, {options.algorithm}) {below}?"
            return partial(authorities.create, found, _wish(options), options.parent, _urls(options)), question
        case "request":
            question = f"Make a key for the authority {name} ({_subject(options)}, {options.algorithm})?"
            return partial(authorities.request, found, _wish(options), _urls(options)), question
        case "install":
            question = f"Let {name} issue under the certificate in {options.certificates}?"
            return partial(
                authorities.install, found, name, options.certificates.absolute(), scep=options.scep
            ), question
        case "import":
            files = _files(options)
            question = f"Take over the authority in {options.pkcs12 or options.key} as {name}, with its key?"
            passphrase = _passphrase(options)
            return partial(authorities.take_over, found, name, files, passphrase, _urls(options)), question
        case "renew":
            what = f"the SCEP key of {name}" if options.scep else f"{name}, with the same key, and the chains below it"
            question = f"Renew the certificate of {what}?"
            return partial(authorities.renew, found, name, options.days, scep=options.scep), question
        case "rekey":
            new = options.new or authorities.next_generation(name)
            question = f"Make {new}, with a new key, in the place of {name}, which will never issue again?"
            return partial(authorities.rekey, found, name, options.new, options.algorithm), question
        case verb:
            raise AssertionError(verb)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise CannotStart(f"{question} Nobody can be asked here: say --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CannotStart("nothing was done")


def _keep(file: Path | None, done: Done) -> None:
    """Print the transcript; beside a request that goes to standard output, it goes to standard error."""
    text = "".join(f"{line}\n" for line in done.transcript)
    print(text, end="", file=sys.stderr if done.csr else sys.stdout, flush=True)
    if file is not None:
        _write_new(file, text)


def _hand_over(file: Path | None, csr: str) -> None:
    if csr and file is None:
        print(csr, end="" if csr.endswith("\n") else "\n", flush=True)
    elif csr and file is not None:
        _write_new(file, csr)


def _write_new(file: Path, text: str) -> None:
    try:
        with file.open("x") as opened:
            opened.write(text)
    except OSError as error:
        raise CannotStart(f"{file}: {error.strerror}; what it should hold:\n{text}") from None


def _wish(options: argparse.Namespace) -> Wish:
    from gateway.serve.ceremony import Wish

    return Wish(
        name=options.name,
        subject=_subject(options),
        algorithm=options.algorithm,
        path_length=options.path_length,
        days=getattr(options, "days", None),
        leaf_days=getattr(options, "leaf_days", None),
        permitted=tuple(options.permit),
        excluded=tuple(options.exclude),
        policies=tuple(options.policy),
        cps=options.cps,
        scep=getattr(options, "scep", False),
    )


def _subject(options: argparse.Namespace) -> str:
    return options.subject or f"CN={options.name}"


def _urls(options: argparse.Namespace) -> Urls | None:
    """The addresses that were given; None for this gateway's own."""
    from gateway.actions.adopt import Urls

    given = Urls(tuple(options.crl_url), tuple(options.issuer_url), tuple(options.ocsp_url))
    for url in (*given.crl, *given.issuer, *given.ocsp):
        if not url.startswith(("http://", "https://")) or not url.isascii() or " " in url:
            raise CannotStart(f"{url!r} is not an http or https URL")
    if options.no_urls and given != Urls():
        raise CannotStart("--no-urls says that there are none, and another flag gives one")
    return given if options.no_urls or given != Urls() else None


def _files(options: argparse.Namespace) -> list[str]:
    """Where the signer finds what is imported, as its flags; it reads them itself."""
    if options.pkcs12 is not None:
        if options.chain is not None:
            raise CannotStart("--chain goes with --key; a PKCS#12 file has its chain in it")
        named = [("--pkcs12", options.pkcs12)]
    else:
        if options.chain is None:
            raise CannotStart("--key goes with --chain: the authority's certificate, then those above it, PEM")
        named = [("--key", options.key), ("--chain", options.chain)]
    for _, file in named:
        if not file.is_file():
            raise CannotStart(f"{file}: there is no such file")
    words = [word for flag, file in named for word in (flag, str(file.absolute()))]
    return [*words, "--with-ra"] if options.scep else words


def _passphrase(options: argparse.Namespace) -> str:
    if options.no_passphrase:
        return ""
    if options.passphrase_env is not None:
        value = os.environ.get(options.passphrase_env)
        if value is None:
            raise CannotStart(f"{options.passphrase_env}: there is no such variable")
        return value
    if options.passphrase_file is not None:
        try:
            text: str = options.passphrase_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise CannotStart(f"{options.passphrase_file}: {reason}") from None
        return text.split("\n", 1)[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise CannotStart("nobody can be asked for the passphrase: --passphrase-file, -env, or --no-passphrase")
    return getpass.getpass("Passphrase: ")


def _placed(found: Settings, options: argparse.Namespace) -> Settings:
    """The settings, with the token that the words name for this once."""
    token, module = getattr(options, "token", None), getattr(options, "module", None)
    if getattr(options, "software", False):
        if token or module:
            raise CannotStart("--software and --token contradict each other")
        return replace(found, token="", pkcs11_module=None)
    if token or module:
        place = Path(module).absolute() if module else found.pkcs11_module
        label = token or found.token
        if place is None or not label:
            raise CannotStart("--token and --module belong together: give both, or set signer.pkcs11-module")
        return replace(found, token=label, pkcs11_module=place)
    return found


def _switch(found: Settings, name: str, *, on: bool) -> None:
    from gateway.domain.authority import AuthorityStatus
    from gateway.serve import authorities

    status = AuthorityStatus.ACTIVE if on else AuthorityStatus.DISABLED
    _awaited(partial(authorities.switch, found, name, status))
    print(f"authority {name} is {status.value}")


def _serve_from(found: Settings, options: argparse.Namespace) -> None:
    from gateway.cli.authority.telling import tokens
    from gateway.serve import authorities
    from gateway.serve.ceremony import Place

    if not options.at_token and not options.at_serial:
        raise CannotStart("which token is meant say --token LABEL, --serial NUMBER, or both")
    label = getattr(options, "label", "")
    where = Place(str(Path(options.at_module).absolute()), options.at_token, options.at_serial, label)
    add = options.verb == "add-token"
    shown = _awaited(partial(authorities.serve_from, found, options.name, where, scep=options.scep, add=add))
    print(f"key {shown.key} is served by {tokens(shown)}")


def _list(found: Settings) -> None:
    from gateway.cli.authority.telling import table
    from gateway.serve import authorities

    for line in table(_awaited(partial(authorities.every, found))):
        print(line)


def _show(found: Settings, name: str) -> None:
    from gateway.cli.authority.telling import sheet
    from gateway.serve import authorities

    for line in sheet(_awaited(partial(authorities.one, found, name))):
        print(line)


def _awaited(verb: Callable[[], Awaitable[T]]) -> T:
    import trio

    # In the middle of the store's own work an interrupt would leave others waiting for an answer that never comes.
    return trio.run(verb, restrict_keyboard_interrupt_to_checkpoints=True, strict_exception_groups=True)
