"""Give an identity a bearer token for the REST API (D10), or end one: stored hashed, shown once, always audited.

Nothing here prints or logs a token; what is kept of it cannot be used.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.domain.access import ApplicationRole, Identity, IdentityKind, ProductRole
from gateway.domain.audit import AuditEvent
from gateway.domain.identifier import new_id
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.store import access
from gateway.store.unit import Store, Unit

# Secret scanners find leaked tokens by their prefix.
PREFIX: Final = "mst_"
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it will be: an identity of this name, made if there is none, with these roles.

    `roles` are by application's id, added to those that the identity has. `expires` None: the token has no end.
    """

    name: str
    product_role: ProductRole = ProductRole.PRODUCT_MEMBER
    roles: Mapping[str, ApplicationRole] = field(default_factory=dict)
    expires: datetime | None = None


def new_token(dice: Callable[[int], bytes]) -> str:
    """A token that nobody can guess."""
    return PREFIX + base64.urlsafe_b64encode(dice(_BYTES)).rstrip(b"=").decode("ascii")


async def mint(
    to: Store, bearer: Bearer, token: str, *, actor: str, now: datetime, dice: Callable[[int], bytes]
) -> None:
    """Make `token` a token of `bearer`, in one unit. The same token of the same bearer again changes nothing.

    Raises Duplicate for a token that another identity has; Refusal, CONFLICT, where the identity is there with another
    product role.
    """
    digest = hashlib.sha256(token.encode()).digest()

    def unit(unit: Unit) -> None:
        identity = access.find_identity(unit, bearer.name)
        if identity is None:
            identity = Identity(new_id(now, dice), bearer.name, IdentityKind.MACHINE, bearer.product_role)
            access.create_identity(unit, identity, now)
        elif identity.product_role is not bearer.product_role:
            # A token must not turn somebody into an administrator, nor quietly make one less than that.
            raise Refusal(RefusalReason.CONFLICT, f"{bearer.name} exists, as a {identity.product_role.value}")
        for application_id, role in bearer.roles.items():
            access.save_member(unit, application_id, identity.id, role, now)
        owner = access.find_token(unit, digest, now)
        if owner is None or owner.id != identity.id:
            token_id = new_id(now, dice)
            access.create_token(
                unit, token_id, identity_id=identity.id, sha256=digest, expires_at=bearer.expires, at=now
            )
            unit.audit(AuditEvent(now, actor, "token.create", f"identity:{bearer.name}", "success"))

    await to.write(unit)


async def end(to: Store, token_id: str, *, actor: str, now: datetime) -> str:
    """End a token, in one unit; gives whose it was. Running gateways obey within a second (`recent`).

    Raises Refusal, NOT_FOUND, for an unknown id.
    """
    whose = ""

    def unit(unit: Unit) -> None:
        nonlocal whose
        whose = next((name for name, token in access.every_token(unit) if token.id == token_id), "")
        if not whose:
            raise Refusal(RefusalReason.NOT_FOUND, f"there is no bearer token {token_id}; see muster bearer list")
        access.delete_token(unit, token_id)
        unit.audit(AuditEvent(now, actor, "token.revoke", f"identity:{whose}", "success"))

    await to.write(unit)
    return whose
