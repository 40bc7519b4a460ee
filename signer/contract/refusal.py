"""Why the signer says no. Imported by both sides."""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class SignerRefusal(StrEnum):
    """Every reason that a worker can give. A refusal is final for its ask: nothing is handed out, nor was signed.

    But for JOURNAL: what was signed and could not be written down is dropped, and its serial is spent.
    """

    CEILING = "ceiling"  # beyond what this key may ever sign, whatever the gateway's policy says
    LINT = "lint"  # the certificate would break RFC 5280
    TICKET = "ticket"  # spent, expired or missing
    SERIAL = "serial"  # this serial was signed already, by whichever worker
    PROOF = "proof"  # no proof of authorization, or one of a method that the pair does not enable
    UNKNOWN_KEY = "unknown-key"  # no key of that name
    WRONG_KIND = "wrong-kind"  # an issuer's key named where an RA's is meant, or the reverse
    UNSUPPORTED = "unsupported"  # an algorithm or a version that this worker does not know
    UNWRAP = "unwrap"  # the wrapped key is not for this RA
    TOKEN = "token"  # noqa: S105 - a PKCS#11 token or a key folder failed; another try may succeed
    TERM = "term"  # a validity outside of the issuer's own: one side knows an older certificate of it
    JOURNAL = "journal"  # what is signed cannot be written down: nothing is handed out, and another try may succeed
