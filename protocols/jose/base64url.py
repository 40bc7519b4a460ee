"""base64url without padding (RFC 7515, appendix C): never two spellings of one value, for two are two thumbprints."""

from __future__ import annotations

import binascii

from protocols.exchange import Malformed


def decode(text: str, *, field: str) -> bytes:
    """The octets of a value.

    Raises:
        Malformed: another alphabet, padding, white space, or bits left over that are not zero.
    """
    try:
        octets = binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "==="[: -len(text) % 4])
    except ValueError:
        raise _wrong(field) from None
    # The decoder skips what it does not know; only what encodes to the same text again was canonical.
    if encode(octets) != text:
        raise _wrong(field)
    return octets


def encode(octets: bytes) -> str:
    """The one spelling of some octets."""
    text = binascii.b2a_base64(octets, newline=False).rstrip(b"=")
    return text.decode().replace("+", "-").replace("/", "_")


def _wrong(field: str) -> Malformed:
    return Malformed(f"The member {field} is not base64url without padding (RFC 7515, appendix C).", field=field)
