"""From TOML to a declaration, or to sentences about all that is wrong with it. Opens nothing, looks nothing up."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType, UnionType
from typing import Final, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from gateway.domain.declaration.shape import Declaration, EstDeclaration, ScepDeclaration, Section

Toml: TypeAlias = object  # tables, lists and scalars, as tomllib gives them

SHORTEST_SECRET: Final = 8  # characters; est.md and scep.md, enrollment settings


class DeclarationError(ValueError):
    """A declaration that cannot be applied. `problems` are all of them, one sentence each, naming the key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read(text: str, *, settings: Collection[str] = ()) -> Declaration:
    """The declaration in a TOML text. `settings` are top-level keys that belong to `muster serve` and are passed by.

    Raises DeclarationError; what the keys mean is checked by `nouns.problems`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError([f"this is not TOML: {error}"]) from None
    document = {key: value for key, value in document.items() if key not in settings}
    unknown = list(_unknown_keys(Declaration, document, ""))
    if unknown:
        raise DeclarationError(unknown)
    try:
        return msgspec.convert(document, Declaration)
    except msgspec.ValidationError as error:
        raise DeclarationError([_sentence(str(error))]) from None


def nearest(word: str, known: list[str]) -> str:
    """A hint for a word that is not known: the nearest one that is, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"


def _sentence(error: str) -> str:
    """Turn msgspec's "what - at `$.path`" around, so that the key comes first."""
    what, _, path = error.partition(" - at `$")
    where = path.removesuffix("`").removeprefix(".")
    return f"{where}: {what[:1].lower()}{what[1:]}"


def _unknown_keys(shape: object, value: Toml, path: str) -> Iterator[str]:
    """Every key that the shape does not have, wherever it stands: msgspec alone would name the first, and no hint."""
    arguments = get_args(shape)
    if get_origin(shape) in {Union, UnionType}:
        yield from _unknown_keys(next(each for each in arguments if each is not NoneType), value, path)
    elif get_origin(shape) is list and isinstance(value, list):
        for index, each in enumerate(value):
            yield from _unknown_keys(arguments[0], each, f"{path}[{index}]")
    elif get_origin(shape) is dict and isinstance(value, dict):
        for key, each in value.items():
            yield from _unknown_keys(arguments[1], each, _joined(path, key))
    elif isinstance(shape, type) and issubclass(shape, Section) and isinstance(value, dict):
        hints = get_type_hints(shape)
        known = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(shape)}
        for key, each in value.items():
            if key in known:
                yield from _unknown_keys(known[key], each, _joined(path, key))
            else:
                yield f"{_joined(path, key)}: unknown key; {nearest(key, list(known))}"


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def with_secrets(
    declaration: Declaration, read_file: Callable[[str], str], environment: Mapping[str, str]
) -> Declaration:
    """The declaration with `passphraseFile`, `passphraseEnv` and the like replaced by the secrets themselves.

    `read_file` raises OSError where a file cannot be read. Line ends at a file's end are no part of a secret. Raises
    DeclarationError for a secret that is given twice, is missing or is too short.
    """
    problems: list[str] = []

    def secret(at: str, name: str, text: str | None, file: str | None, variable: str | None) -> str | None:
        if sum(each is not None for each in (text, file, variable)) > 1:
            problems.append(f"{at}: give only one of {name}, {name}File and {name}Env")
            return None
        if file is not None:
            try:
                text = read_file(file).rstrip("\r\n")
            except (OSError, UnicodeError):
                problems.append(f"{at}.{name}File: {file} cannot be read")
                return None
        if variable is not None:
            text = environment.get(variable)
            if text is None:
                problems.append(f"{at}.{name}Env: there is no environment variable {variable}")
                return None
        if text is not None and len(text) < SHORTEST_SECRET:
            problems.append(f"{at}: the {name} has fewer than {SHORTEST_SECRET} characters")
        return text

    def est(at: str, declared: EstDeclaration) -> EstDeclaration:
        text = secret(at, "passphrase", declared.passphrase, declared.passphrase_file, declared.passphrase_env)
        return msgspec.structs.replace(declared, passphrase=text, passphrase_file=None, passphrase_env=None)

    def scep(at: str, declared: ScepDeclaration) -> ScepDeclaration:
        text = secret(at, "challenge", declared.challenge, declared.challenge_file, declared.challenge_env)
        return msgspec.structs.replace(declared, challenge=text, challenge_file=None, challenge_env=None)

    applications = []
    for index, application in enumerate(declaration.applications):
        doors = {}
        for slug, door in application.enrollment.items():
            at = f"applications[{index}].enrollment.{slug}"
            doors[slug] = msgspec.structs.replace(
                door,
                est=door.est and est(f"{at}.est", door.est),
                scep=door.scep and scep(f"{at}.scep", door.scep),
            )
        applications.append(msgspec.structs.replace(application, enrollment=doors))
    if problems:
        raise DeclarationError(problems)
    return msgspec.structs.replace(declaration, applications=applications)
