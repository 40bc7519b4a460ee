"""Publish what relying parties need of an authority: its revocation lists, always in force (RFC 5280, 5; D19).

`renew` signs and adopts, `held` is what is handed out, `ledger` what is revoked. The bytes are signed by the signer and
kept in the store. Must never happen here: a request that makes the signer work twice for the same list.
"""

from gateway.actions.publish.held import Publications, RevocationList
from gateway.actions.publish.renew import outlook, renew_revocation_lists, revocation_list

__all__ = ["Publications", "RevocationList", "outlook", "renew_revocation_lists", "revocation_list"]
