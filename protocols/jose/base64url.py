"""base64url without padding (RFC 7515, appendix C): never two spellings of one value, for two are two thumbprints."""

from __future__ import annotations

import binascii
from typing import Final

from protocols.exchange import Malformed

# To the alphabet that the decoder knows; its own two and its padding become what it refuses.
_READ: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_WRITTEN: Final = bytes.maketrans(b"+/", b"-_")

# By how many characters stand beyond whole groups of four: what pads them, and which of the alphabet may be the last,
# since others would leave bits over that are not zero. One alone is no octet.
_PADDING: Final = (b"", b"", b"==", b"=")
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")


def decode(text: str, *, field: str) -> bytes:
    """The octets of a value.

    Raises:
        Malformed: another alphabet, padding, white space, or bits left over that are not zero.
    """
    # Told apart by their endings and not by encoding again: each request has six such values.
    try:
        raw = text.encode("ascii").translate(_READ)
        beyond = len(raw) & 3
        if beyond and raw[-1] not in _LAST[beyond]:
            raise _wrong(field)
        return binascii.a2b_base64(raw + _PADDING[beyond], strict_mode=True)
    except ValueError:
        raise _wrong(field) from None


def encode(octets: bytes) -> str:
    """The one spelling of some octets."""
    return binascii.b2a_base64(octets, newline=False).translate(_WRITTEN, b"=").decode("ascii")


def _wrong(field: str) -> Malformed:
    return Malformed(f"The member {field} is not base64url without padding (RFC 7515, appendix C).", field=field)
