"""What an identity may do in an application: its roles against the one table of `domain/access` (D9). Default deny."""

from __future__ import annotations

from gateway.actions.resources import Resources
from gateway.domain.access import ApplicationRole, Identity, Permission, allowed
from gateway.domain.application import Pair
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Protocol
from gateway.store import access

# One sentence for what does not exist and for what the caller may not see: names and ids cannot be tried out.
UNKNOWN_PAIR = "there is no such application with such a profile, or none that you may see"


async def may(resources: Resources, identity: Identity, application_id: str, permission: Permission) -> bool:
    """Whether `identity` has `permission` in this application."""
    return allowed(identity.product_role, await _role(resources, identity, application_id), permission)


async def readable_applications(resources: Resources, identity: Identity) -> tuple[str, ...] | None:
    """The ids of the applications whose requests `identity` may read; None means all of them."""
    if allowed(identity.product_role, None, Permission.READ_REQUESTS):
        return None
    memberships = await resources.store.read(lambda unit: access.memberships(unit, identity.id))
    return tuple(
        application_id
        for application_id, role in memberships.items()
        if allowed(identity.product_role, role, Permission.READ_REQUESTS)
    )


async def pair_to_issue_from(resources: Resources, identity: Identity, pair: Pair | None) -> Pair:
    """`pair`, if `identity` may issue from it over REST now.

    Raises:
        Refusal: NOT_FOUND for a pair that is not there or that the identity may not see; FORBIDDEN without the
            permission to issue, or where REST is not enabled; UNAVAILABLE where the authority does not issue.
    """
    if pair is None:
        raise Refusal(RefusalReason.NOT_FOUND, UNKNOWN_PAIR)
    role = await _role(resources, identity, pair.application.id)
    if not allowed(identity.product_role, role, Permission.READ_APPLICATION):
        raise Refusal(RefusalReason.NOT_FOUND, UNKNOWN_PAIR)
    if not allowed(identity.product_role, role, Permission.ISSUE_CERTIFICATE):
        raise Refusal(RefusalReason.FORBIDDEN, f"you may not issue certificates in application {pair.application.name}")
    if not pair.settings.enables(Protocol.API):
        raise Refusal(
            RefusalReason.FORBIDDEN,
            f"enrollment over REST is not enabled for application {pair.application.name}, profile {pair.profile.slug}",
        )
    if not pair.authority.issues:
        raise Refusal(RefusalReason.UNAVAILABLE, "the certificate authority is not issuing", retry_after=300)
    return pair


async def _role(resources: Resources, identity: Identity, application_id: str) -> ApplicationRole | None:
    key, at = (identity.id, application_id), resources.now()
    role = resources.roles.get(key, at)
    if role is None:
        role = await resources.store.read(lambda unit: access.role(unit, application_id, identity.id))
        if role is not None:
            resources.roles.put(key, role, at)
    return role
