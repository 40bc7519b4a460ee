"""Which usages a key may have, and which of them fit together. A table a question; no certificate is looked at."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# RFC 5280, 4.2.1.3, in the order of the bits.
KEY_USAGES: Final = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"

_SIGNS: Final = frozenset({"digitalSignature", "nonRepudiation", "keyCertSign", "cRLSign"})
_RSA: Final = _SIGNS | {"keyEncipherment", "dataEncipherment"}  # RFC 3279, 2.3.1
_EC: Final = _SIGNS | {"keyAgreement", "encipherOnly", "decipherOnly"}  # RFC 8813, section 3

# The other algorithms sign only: RFC 8410, section 5 (Ed25519, Ed448) and RFC 9881, section 5 (ML-DSA).
_BY_ALGORITHM: Final = (("RSA_", _RSA), ("EC_", _EC))

# Bits that are consistent with an extended key usage, one of which must be there (RFC 5280, 4.2.1.12).
_CONSISTENT: Final[dict[str, frozenset[str]]] = {
    "1.3.6.1.5.5.7.3.1": frozenset({"digitalSignature", "keyEncipherment", "keyAgreement"}),  # serverAuth
    "1.3.6.1.5.5.7.3.2": frozenset({"digitalSignature", "keyAgreement"}),  # clientAuth
    "1.3.6.1.5.5.7.3.3": frozenset({"digitalSignature"}),  # codeSigning
    "1.3.6.1.5.5.7.3.4": frozenset({"digitalSignature", "nonRepudiation", "keyEncipherment", "keyAgreement"}),  # e-mail
    TIME_STAMPING: frozenset({"digitalSignature", "nonRepudiation"}),
    "1.3.6.1.5.5.7.3.9": frozenset({"digitalSignature", "nonRepudiation"}),  # OCSPSigning
}
# Eleven arcs of ten digits fit into the 63 bytes that cryptography encodes.
_OID: Final = re.compile(r"(?:[01]\.[1-3]?[0-9]|2\.[1-9]?[0-9])(?:\.(?:0|[1-9][0-9]{0,9})){1,11}", re.ASCII)


@lru_cache(maxsize=1024)
def check_usages(usages: tuple[str, ...], extended: tuple[str, ...], algorithm: str, ca: bool) -> str | None:
    """The fault in a certificate's usages, as a sentence, or None."""
    if len(set(usages)) != len(usages) or len(set(extended)) != len(extended):
        return "a usage occurs twice"
    for each in usages:
        if each not in KEY_USAGES:
            return f"the key usage {each!r} is unknown"
        if each not in _allowed(algorithm):
            return f"{each} is not a usage of {algorithm} keys"
    if ("encipherOnly" in usages or "decipherOnly" in usages) and "keyAgreement" not in usages:
        return "encipherOnly and decipherOnly stand with keyAgreement alone (RFC 5280, 4.2.1.3)"
    if ca is not ("keyCertSign" in usages):
        return "keyCertSign stands with authorities, and with all of them (RFC 5280, 4.2.1.3 and 4.2.1.9)"
    if "cRLSign" in usages and not ca:
        return "cRLSign stands with authorities alone"
    return _extended_fault(usages, extended)


def _allowed(algorithm: str) -> frozenset[str]:
    for prefix, allowed in _BY_ALGORITHM:
        if algorithm.startswith(prefix):
            return allowed
    return _SIGNS


def _extended_fault(usages: tuple[str, ...], extended: tuple[str, ...]) -> str | None:
    for each in extended:
        if not _OID.fullmatch(each):
            return f"{each[:100]!r} is not an object identifier"
        consistent = _CONSISTENT.get(each)
        # An authority's extended usages bound those below it and say nothing of its own key.
        if consistent is not None and usages and "keyCertSign" not in usages and consistent.isdisjoint(usages):
            return f"no key usage is consistent with the extended key usage {each} (RFC 5280, 4.2.1.12)"
    if TIME_STAMPING in extended and len(extended) > 1:
        return "time stamping stands alone (RFC 3161, 2.3)"
    return None
