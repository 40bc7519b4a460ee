"""Identities, their tokens and memberships. Never here: a right (`domain.access` knows them), a token in the clear."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.access import ApplicationRole, Identity, IdentityKind, ProductRole
from gateway.store.unit import Row, Unit, maybe_millis, millis


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token: enough to recognise and to end it, not to use it."""

    id: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


def find_token(unit: Unit, sha256: bytes, at: datetime) -> Identity | None:
    """Whose token has this SHA-256, if it has not expired at `at`. `expires` of the identity is the token's end."""
    row = unit.one("access.find_token", sha256=sha256, at=millis(at))
    return None if row is None else _identity(row, row.maybe_time("expires_at"))


def create_token(
    unit: Unit, token_id: str, *, identity_id: str, sha256: bytes, expires_at: datetime | None, at: datetime
) -> None:
    """Give an identity a token, of which only the SHA-256 is kept. Raises Duplicate if the token is known."""
    unit.run(
        "access.create_token",
        id=token_id,
        sha256=sha256,
        identity_id=identity_id,
        at=millis(at),
        expires_at=maybe_millis(expires_at),
    )


def touch_token(unit: Unit, sha256: bytes, at: datetime) -> None:
    """Note that a token was used at `at`; notes that come late do not turn the time back."""
    unit.run("access.touch_token", sha256=sha256, at=millis(at))


def delete_token(unit: Unit, token_id: str) -> bool:
    """End a token; false if there was none."""
    return unit.run("access.delete_token", id=token_id) == 1


def tokens(unit: Unit, identity_id: str) -> list[Token]:
    """The tokens of an identity, the oldest first."""
    return [_token(row) for row in unit.all("access.tokens", identity_id=identity_id)]


def every_token(unit: Unit) -> list[tuple[str, Token]]:
    """All tokens, with the names of their identities, by name."""
    return [(row.text("name"), _token(row)) for row in unit.all("access.every_token")]


def create_identity(unit: Unit, identity: Identity, at: datetime) -> None:
    """Write an identity. Raises Duplicate for a name or an id that is taken."""
    unit.run(
        "access.create_identity",
        id=identity.id,
        name=identity.name,
        kind=identity.kind.value,
        product_role=identity.product_role.value,
        at=millis(at),
    )


def find_identity(unit: Unit, name: str) -> Identity | None:
    """The identity of this name."""
    row = unit.one("access.find_identity", name=name)
    return None if row is None else _identity(row, None)


def save_member(unit: Unit, application_id: str, identity_id: str, role: ApplicationRole, at: datetime) -> None:
    """Make an identity a member of an application, or change its role there."""
    unit.run(
        "access.save_member",
        application_id=application_id,
        identity_id=identity_id,
        role=role.value,
        at=millis(at),
    )


def remove_member(unit: Unit, application_id: str, identity_id: str) -> bool:
    """End a membership; false if there was none."""
    return unit.run("access.remove_member", application_id=application_id, identity_id=identity_id) == 1


def role(unit: Unit, application_id: str, identity_id: str) -> ApplicationRole | None:
    """An identity's role in an application; None if it is no member."""
    row = unit.one("access.role", application_id=application_id, identity_id=identity_id)
    return None if row is None else ApplicationRole(row.text("role"))


def memberships(unit: Unit, identity_id: str) -> dict[str, ApplicationRole]:
    """An identity's role in each application that it is a member of, by the application's id."""
    rows = unit.all("access.memberships", identity_id=identity_id)
    return {row.text("application_id"): ApplicationRole(row.text("role")) for row in rows}


def _token(row: Row) -> Token:
    return Token(
        id=row.text("id"),
        created_at=row.time("created_at"),
        expires_at=row.maybe_time("expires_at"),
        last_used_at=row.maybe_time("last_used_at"),
    )


def _identity(row: Row, expires: datetime | None) -> Identity:
    return Identity(
        id=row.text("id"),
        name=row.text("name"),
        kind=IdentityKind(row.text("kind")),
        product_role=ProductRole(row.text("product_role")),
        expires=expires,
    )
