"""Certs-only messages: SignedData that nobody signed, the usual bag for certificates (RFC 5652, 5.1; RFC 8894, 3.4).

Built by template: all octets but the certificates and five lengths are constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from protocols.cms import algorithms, der

_VERSION_DIGESTS_CONTENT: Final = der.integer(1) + der.set_of() + der.sequence(algorithms.DATA)
_NO_SIGNERS: Final = der.set_of()


def certificates_only(certificates: Iterable[bytes]) -> bytes:
    """A ContentInfo with these certificates (DER), in this order.

    The order is kept although a SET OF is sorted in DER: SCEP clients take the first one for the RA's, or the leaf
    (S27, S86). A caller that means nothing by the order gives them sorted, which is DER for the strictest reader.
    """
    bag = b"".join(certificates)
    return _head(len(bag)) + bag + _NO_SIGNERS


# Certificates of one authority differ in a few octets, so that there are few lengths, and five heads in a row for each.
@lru_cache(maxsize=256)
def _head(octets: int) -> bytes:
    """What stands before certificates of so many octets together."""
    signed = der.sequence(_VERSION_DIGESTS_CONTENT, der.tlv(0xA0, bytes(octets)), _NO_SIGNERS)
    whole = der.sequence(algorithms.SIGNED_DATA, der.tlv(0xA0, signed))
    return whole[: -octets - len(_NO_SIGNERS)]
