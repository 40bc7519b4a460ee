"""Publish what relying parties need of an authority: its revocation lists, always in force (RFC 5280, 5; D19).

`outlook` is how things stand, `renew` says what is due and adopts what others signed, `sign` makes one list or delta,
`held` is what is handed out, `ledger` what is revoked. The bytes are signed by the signer and kept in the store. Must
never happen here: a request that makes the signer work twice for the same list.
"""

from gateway.actions.publish.held import Publications, RevocationList
from gateway.actions.publish.outlook import Outlook, outlook
from gateway.actions.publish.renew import delta_list, renew_revocation_lists, revocation_list
from gateway.store.revocation_lists import WHOLE

__all__ = [
    "WHOLE",
    "Outlook",
    "Publications",
    "RevocationList",
    "delta_list",
    "outlook",
    "renew_revocation_lists",
    "revocation_list",
]
