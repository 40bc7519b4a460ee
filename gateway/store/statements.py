"""SQL by name: `queries/{noun}.sql`, blocks under `-- name --`. Never here: SQL put together from values.

One text serves both engines wherever it can; `queries/{noun}.postgres.sql` replaces single blocks where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Final, Generic, NamedTuple, TypeVar

_NAME: Final = re.compile(r"^-- ([a-z0-9_]+) --$", re.MULTILINE)
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_NAMED: Final = re.compile(r"%\([a-z0-9_]+\)s")
_POSTGRES: Final = ".postgres"

V = TypeVar("V")


class Positional(NamedTuple, Generic[V]):
    """A query with `?` for each parameter, and how parameters by name are put into their order."""

    text: str
    ordered: Callable[[Mapping[str, V]], tuple[V, ...]]


def parse(text: str) -> dict[str, str]:
    """The blocks of one file by name. Raises ValueError for a name that comes twice or an empty block."""
    parts = _NAME.split(text)
    blocks: dict[str, str] = {}
    for name, block in zip(parts[1::2], parts[2::2], strict=True):
        lines = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("--")]
        if name in blocks or not lines:
            raise ValueError(f"query {name}: twice, or empty")
        blocks[name] = "\n".join(lines).rstrip(";")
    return blocks


@cache
def for_sqlite() -> Mapping[str, str]:
    """Every query, as `noun.name`, with `:name` parameters."""
    return _load(override="")


def positional(text: str) -> Positional[V]:
    """`:name` becomes `?`: a name is looked up here at a fifth of what sqlite3 takes to find it in a mapping.

    Of an insert of 26 columns that was a fifth of the time.
    """
    names = _PARAMETER.findall(text)
    turned = _PARAMETER.sub("?", text)
    match names:
        case []:
            return Positional(turned, lambda _: ())
        case [name]:  # of one name alone itemgetter gives the value, and no tuple
            return Positional(turned, lambda given: (given[name],))
        case _:
            return Positional(turned, itemgetter(*names))


@cache
def for_postgres() -> Mapping[str, str]:
    """Every query, as `noun.name`, with psycopg's `%(name)s` parameters."""
    return {name: to_postgres(text) for name, text in _load(override=_POSTGRES).items()}


def to_postgres(text: str) -> str:
    """`:name` becomes `%(name)s`; a percent sign of the SQL itself is doubled, as psycopg wants it."""
    return _PARAMETER.sub(r"%(\1)s", text.replace("%", "%%"))


@cache
def in_order(query: str) -> str:
    """A query of `for_postgres` with `%s` for each parameter: for values that stand in its order."""
    return _NAMED.sub("%s", query)


def _load(*, override: str) -> dict[str, str]:
    found: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for file in (files("gateway.store") / "queries").iterdir():
        noun = file.name.removesuffix(".sql")
        if noun == file.name:
            continue
        into = replaced if noun.endswith(_POSTGRES) else found
        noun = noun.removesuffix(_POSTGRES)
        into.update({f"{noun}.{name}": text for name, text in parse(file.read_text("utf-8")).items()})
    if unknown := replaced.keys() - found.keys():
        raise ValueError(f"queries that replace nothing: {sorted(unknown)}")
    if override:
        found.update(replaced)
    return found
