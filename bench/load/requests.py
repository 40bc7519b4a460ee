"""Prepared certification requests: keys are made once, each request has a name of its own.

A `Template` asks the library once and then only writes the next name in and signs again, which is all that a client
with a prepared key would have to do. May not happen here: anything secret that outlives the run.
"""

from __future__ import annotations

import ipaddress
import itertools
import secrets
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocols.cms import der

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ANY_NAME: Final = "h{n}.bench.example"
NUMBER: Final = "{n}"

_ECDSA_SHA256: Final = ec.ECDSA(hashes.SHA256())
_COMMON_NAME_MOST: Final = 64  # ub-common-name of RFC 5280, appendix A

_numbers = itertools.count(1)
_run = secrets.token_hex(4)  # so that two runs against one store do not meet


def name() -> str:
    """A host name that no other request of this run has."""
    return f"h{next(_numbers)}-{_run}.bench.example"


def names(pattern: str) -> Iterator[str]:
    """Names for ever: `{n}` becomes sixteen digits that no other process or run has; without it one name."""
    if NUMBER not in pattern:
        yield from itertools.repeat(pattern)
    run = secrets.token_hex(4)
    for number in itertools.count():
        yield pattern.replace(NUMBER, f"{run}{number:08x}")


def identifier(value: str) -> dict[str, str]:
    """An ACME identifier for a name (RFC 8555, 7.1.4) or an address (RFC 8738)."""
    return {"type": "dns" if address(value) is None else "ip", "value": value}


def address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that this text is, or None."""
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def csr(key: PrivateKey, dns: str, challenge: str | None = None) -> bytes:
    """A PKCS#10 in DER for `dns`, as subject and as alternative name, with a challengePassword if one is given.

    An IP address is an alternative name alone.
    """
    builder = x509.CertificateSigningRequestBuilder()
    if (ip := address(dns)) is not None:
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip)])
        builder = builder.subject_name(x509.Name([])).add_extension(alternative, critical=True)
    else:
        common = [x509.NameAttribute(NameOID.COMMON_NAME, dns)] if len(dns) <= _COMMON_NAME_MOST else []
        alternative = x509.SubjectAlternativeName([x509.DNSName(dns)])
        builder = builder.subject_name(x509.Name(common)).add_extension(alternative, critical=not common)
    if challenge is not None:
        builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def elliptic() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


class Template:
    """Requests with one key, whose names all follow one pattern and so are all of one length."""

    def __init__(self, key: PrivateKey, pattern: str, challenge: str | None = None) -> None:
        self.key = key
        self._names = names(pattern)
        self._model_name = next(self._names)
        model = csr(key, self._model_name, challenge)
        self._fixed = model if NUMBER not in pattern else None
        parsed = x509.load_der_x509_csr(model)
        self._to_be_signed = parsed.tbs_certrequest_bytes
        # What stands between what is signed and the signature: the AlgorithmIdentifier.
        signature = der.tlv(der.BIT_STRING, b"\0" + parsed.signature)
        self._algorithm = model[model.index(self._to_be_signed) + len(self._to_be_signed) : -len(signature)]

    def next(self) -> tuple[str, bytes]:
        """The next name and its request, DER."""
        if self._fixed is not None:
            return self._model_name, self._fixed
        following = next(self._names)
        return following, self.of(following)

    def of(self, following: str) -> bytes:
        """The request for a name of the pattern."""
        if self._fixed is not None:
            return self._fixed
        to_be_signed = self._to_be_signed.replace(self._model_name.encode(), following.encode())
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(to_be_signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            signature = self.key.sign(to_be_signed, _ECDSA_SHA256)
        return der.sequence(to_be_signed, self._algorithm, der.tlv(der.BIT_STRING, b"\0" + signature))
