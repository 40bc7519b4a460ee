"""The schema and its migrations. Never here: data of the product, a choice of engine beyond its words.

A migration is `schema/{number}_{pre|post}_{name}.sql`. `pre` is what older gateways can live with and runs before new
code rolls out; `post` is what they could not, and runs once they are gone. `schema/current.sql` is their sum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import cache
from importlib.resources import files
from typing import Final, Protocol

from gateway.store.unit import DamagedStore, NewerSchema

_FILE: Final = re.compile(r"^(\d{4})_(pre|post)_([a-z0-9_]+)\.sql$")


@unique
class Phase(StrEnum):
    """When a migration may run."""

    PRE = "pre"
    POST = "post"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `schema/`. `name` is what is recorded of it."""

    number: int
    phase: Phase
    name: str
    script: str


class Ground(Protocol):
    """A connection with a transaction open, alone on the schema."""

    def tables(self) -> frozenset[str]:
        """The names of all tables there are."""
        ...

    def applied(self) -> frozenset[str]:
        """The names in the table `migrations`."""
        ...

    def execute(self, statement: str) -> None:
        """One statement of a script, in the words of the schema files."""
        ...

    def record(self, name: str) -> None:
        """Write a name into the table `migrations`."""
        ...


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this version, in their order."""
    found = []
    for file in (files("gateway.store") / "schema").iterdir():
        if match := _FILE.match(file.name):
            name = file.name.removesuffix(".sql")
            found.append(Migration(int(match[1]), Phase(match[2]), name, file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda each: (each.number, each.phase is Phase.POST)))


@cache
def current() -> str:
    """The whole schema of this version."""
    return (files("gateway.store") / "schema" / "current.sql").read_text("utf-8")


def statements(script: str) -> Iterable[str]:
    """The statements of a script; no string in it holds a semicolon or two dashes."""
    bare = re.sub(r"--[^\n]*", "", script)
    return (statement.strip() for statement in bare.split(";") if statement.strip())


def migrate(ground: Ground, *, post: bool = True) -> bool:
    """Bring the schema to this version; true if anything was changed. The caller commits.

    Raises:
        NewerSchema: it has a migration that this version does not know.
        DamagedStore: there are tables, and not ours.
    """
    tables = ground.tables()
    ours = migrations()
    if not tables:
        for statement in statements(current()):
            ground.execute(statement)
        for migration in ours:
            ground.record(migration.name)
        return True
    if "migrations" not in tables:
        raise DamagedStore("the database holds tables, but none of Muster's: it belongs to something else")
    applied = ground.applied()
    if unknown := sorted(applied - {migration.name for migration in ours}):
        raise NewerSchema(f"the store was made by a newer version of Muster ({unknown[-1]}); run that version")
    due = [each for each in ours if each.name not in applied and (post or each.phase is Phase.PRE)]
    for migration in due:
        for statement in statements(migration.script):
            ground.execute(statement)
        ground.record(migration.name)
    if not due and (lost := _expected() - tables):
        raise DamagedStore(f"the store is damaged: the table {min(lost)} is missing")
    return bool(due)


@cache
def _expected() -> frozenset[str]:
    return frozenset(re.findall(r"^CREATE TABLE (\w+)", current(), re.MULTILINE))
