"""Who may do what: the roles and their one table (D9). Nothing here looks anything up or knows of a route."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Final

import msgspec


@unique
class ProductRole(StrEnum):
    """What an identity is at product level. Everyone has exactly one."""

    PRODUCT_ADMIN = "product_admin"
    PRODUCT_MEMBER = "product_member"


@unique
class ApplicationRole(StrEnum):
    """What a member is in one application. A member has exactly one role there."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"


@unique
class IdentityKind(StrEnum):
    """People have a console session; machines have bearer tokens (D10)."""

    USER = "user"
    MACHINE = "machine"


class Identity(msgspec.Struct, frozen=True):
    """Someone who has proved who they are. `expires` is when the proof ends (aware, UTC), None if it does not."""

    id: str
    name: str
    kind: IdentityKind
    product_role: ProductRole
    expires: datetime | None = None


@unique
class Permission(StrEnum):
    """Everything that a role can allow. Those of an application first, then those of the product."""

    READ_APPLICATION = "read-application"
    READ_ENROLLMENT_SETTINGS = "read-enrollment-settings"
    READ_CERTIFICATES = "read-certificates"
    READ_REQUESTS = "read-requests"
    READ_ALERTS = "read-alerts"
    READ_SYNCS = "read-syncs"
    READ_APPROVALS = "read-approvals"
    READ_APPLICATION_AUDIT = "read-application-audit"
    ISSUE_CERTIFICATE = "issue-certificate"
    RENEW_CERTIFICATE = "renew-certificate"
    REVOKE_CERTIFICATE = "revoke-certificate"
    IMPORT_CERTIFICATE = "import-certificate"
    READ_PRIVATE_KEY = "read-private-key"
    MINT_SCEP_CHALLENGE = "mint-scep-challenge"
    MINT_EST_PASSWORD = "mint-est-password"  # noqa: S105 - the name of a permission
    EDIT_APPLICATION = "edit-application"
    DELETE_APPLICATION = "delete-application"
    EDIT_ENROLLMENT_SETTINGS = "edit-enrollment-settings"
    REVEAL_EAB_SECRET = "reveal-eab-secret"  # noqa: S105 - the name of a permission
    ROTATE_EAB_SECRET = "rotate-eab-secret"  # noqa: S105 - the name of a permission
    MANAGE_MEMBERS = "manage-members"
    ATTACH_PROFILE = "attach-profile"
    DETACH_PROFILE = "detach-profile"
    MANAGE_ALERTS = "manage-alerts"
    MANAGE_APPROVAL_POLICIES = "manage-approval-policies"
    EDIT_SYNCS = "edit-syncs"
    TRIGGER_SYNC = "trigger-sync"
    REQUEST_APPROVAL = "request-approval"
    DELETE_CERTIFICATE = "delete-certificate"

    READ_AUTHORITIES = "read-authorities"
    READ_POLICIES = "read-policies"
    READ_PROFILES = "read-profiles"
    MANAGE_AUTHORITIES = "manage-authorities"
    MANAGE_POLICIES = "manage-policies"
    MANAGE_PROFILES = "manage-profiles"
    CREATE_APPLICATION = "create-application"
    READ_PRODUCT_AUDIT = "read-product-audit"


_READ: Final = frozenset(
    {
        Permission.READ_APPLICATION,
        Permission.READ_ENROLLMENT_SETTINGS,
        Permission.READ_CERTIFICATES,
        Permission.READ_REQUESTS,
        Permission.READ_ALERTS,
        Permission.READ_SYNCS,
        Permission.READ_APPROVALS,
        Permission.READ_APPLICATION_AUDIT,
    }
)
_OPERATE: Final = frozenset(
    {
        Permission.ISSUE_CERTIFICATE,
        Permission.RENEW_CERTIFICATE,
        Permission.REVOKE_CERTIFICATE,
        Permission.IMPORT_CERTIFICATE,
        Permission.READ_PRIVATE_KEY,
        Permission.MINT_SCEP_CHALLENGE,
        Permission.MINT_EST_PASSWORD,
        Permission.TRIGGER_SYNC,
        Permission.REQUEST_APPROVAL,
    }
)
_ADMINISTER: Final = frozenset(
    {
        Permission.EDIT_APPLICATION,
        Permission.DELETE_APPLICATION,
        Permission.EDIT_ENROLLMENT_SETTINGS,
        Permission.REVEAL_EAB_SECRET,
        Permission.ROTATE_EAB_SECRET,
        Permission.MANAGE_MEMBERS,
        Permission.MANAGE_ALERTS,
        Permission.MANAGE_APPROVAL_POLICIES,
        Permission.EDIT_SYNCS,
        Permission.DELETE_CERTIFICATE,
    }
)
_READ_SHARED: Final = frozenset({Permission.READ_AUTHORITIES, Permission.READ_POLICIES, Permission.READ_PROFILES})

# The whole of D9. A Product Admin who is also a member has both rows; what no row grants is refused.
GRANTS: Final[dict[ProductRole | ApplicationRole, frozenset[Permission]]] = {
    ApplicationRole.ADMIN: _READ | _OPERATE | _ADMINISTER,
    ApplicationRole.OPERATOR: _READ | _OPERATE,
    ApplicationRole.AUDITOR: _READ,
    ProductRole.PRODUCT_MEMBER: _READ_SHARED,
    ProductRole.PRODUCT_ADMIN: _READ
    | _READ_SHARED
    | {
        Permission.MANAGE_MEMBERS,
        Permission.ATTACH_PROFILE,
        Permission.DETACH_PROFILE,
        Permission.MANAGE_AUTHORITIES,
        Permission.MANAGE_POLICIES,
        Permission.MANAGE_PROFILES,
        Permission.CREATE_APPLICATION,
        Permission.READ_PRODUCT_AUDIT,
    },
}


def allowed(product_role: ProductRole, application_role: ApplicationRole | None, permission: Permission) -> bool:
    """Whether these two roles together grant `permission`. `application_role` is None for those who are not members."""
    if permission in GRANTS[product_role]:
        return True
    return application_role is not None and permission in GRANTS[application_role]
