"""The external account binding of RFC 8555, 7.3.4: an account's key under a MAC that the CA's customer was given."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping


def binding(kid: str, key: str, jwk: Mapping[str, str], url: str) -> dict[str, str]:
    """The flattened JWS for `externalAccountBinding`. `key` is base64url, as CAs hand it out; `url` is newAccount's.

    Raises ValueError where `key` is no base64url.
    """
    try:
        secret = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    except binascii.Error:
        raise ValueError("the MAC key of the external account binding is no base64url") from None
    protected = _b64(json.dumps({"alg": "HS256", "kid": kid, "url": url}).encode())
    payload = _b64(json.dumps(dict(jwk)).encode())
    mac = hmac.new(secret, f"{protected}.{payload}".encode(), hashlib.sha256).digest()
    return {"protected": protected, "payload": payload, "signature": _b64(mac)}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
