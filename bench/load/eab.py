"""The external account binding of RFC 8555, 7.3.4: an account's key under a MAC that the CA's customer was given."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping


def mac_key(text: str) -> bytes:
    """The MAC's key from base64url, as CAs hand it out. Raises ValueError where it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the key of the external account binding is not base64url") from None


def binding(kid: str, key: bytes, jwk: Mapping[str, str], url: str) -> dict[str, object]:
    """The flattened JWS for `externalAccountBinding`; `url` is newAccount's."""
    protected = _b64(json.dumps({"alg": "HS256", "kid": kid, "url": url}).encode())
    payload = _b64(json.dumps(dict(jwk)).encode())
    signature = hmac.digest(key, f"{protected}.{payload}".encode("ascii"), "sha256")
    return {"protected": protected, "payload": payload, "signature": _b64(signature)}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
