"""D9: every role, every permission, as the matrix in applications.md has it."""

import pytest

from gateway.domain.access import GRANTS, ApplicationRole, Permission, ProductRole, allowed

# The matrix, row by row as it is written: permissions, then Admin, Operator, Auditor, Product Admin who is no member.
MATRIX = [
    ("read-application read-enrollment-settings read-certificates read-requests read-alerts read-syncs read-approvals read-application-audit", "xxxx"),
    ("issue-certificate renew-certificate revoke-certificate import-certificate read-private-key", "xx.."),
    ("mint-scep-challenge mint-est-password", "xx.."),
    ("edit-application delete-application edit-enrollment-settings reveal-eab-secret rotate-eab-secret", "x..."),
    ("manage-members", "x..x"),
    ("attach-profile detach-profile", "...x"),
    ("manage-alerts manage-approval-policies edit-syncs", "x..."),
    ("trigger-sync request-approval", "xx.."),
    ("delete-certificate", "x..."),
]  # fmt: skip
PRODUCT = {
    ProductRole.PRODUCT_ADMIN: "read-authorities read-policies read-profiles manage-authorities manage-policies manage-profiles create-application read-product-audit",
    ProductRole.PRODUCT_MEMBER: "read-authorities read-policies read-profiles",
}
COLUMNS = [ApplicationRole.ADMIN, ApplicationRole.OPERATOR, ApplicationRole.AUDITOR, ProductRole.PRODUCT_ADMIN]


def expected(role: ProductRole | ApplicationRole) -> set[str]:
    rights = set(PRODUCT.get(role, "").split())
    if role in COLUMNS:
        column = COLUMNS.index(role)
        rights |= {name for names, row in MATRIX if row[column] == "x" for name in names.split()}
    return rights


def test_the_matrix_names_every_permission():
    named = {name for names, _ in MATRIX for name in names.split()} | {
        name for names in PRODUCT.values() for name in names.split()
    }
    assert named == {each.value for each in Permission}


@pytest.mark.parametrize("application_role", [None, *ApplicationRole])
@pytest.mark.parametrize("product_role", list(ProductRole))
def test_every_role_has_exactly_the_permissions_of_the_matrix(product_role, application_role):
    wanted = expected(product_role) | (set() if application_role is None else expected(application_role))
    assert {each.value for each in Permission if allowed(product_role, application_role, each)} == wanted


def test_every_role_has_a_row():
    assert set(GRANTS) == {*ProductRole, *ApplicationRole}
