"""Policies ready made, for the certificates that most people need. A table; nothing is decided here."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from gateway.domain.policy import (
    EXTENDED_KEY_USAGES,
    BasicConstraints,
    ExtendedKeyUsageRule,
    KeyUsageRule,
    Policy,
    SanRule,
    SubjectRule,
)
from gateway.domain.request import KeyAlgorithm, KeyUsage, SanType, SubjectType

_SERVER: Final = EXTENDED_KEY_USAGES["serverAuth"]
_CLIENT: Final = EXTENDED_KEY_USAGES["clientAuth"]
_MAIL: Final = EXTENDED_KEY_USAGES["emailProtection"]
_CODE: Final = EXTENDED_KEY_USAGES["codeSigning"]

# Every algorithm with a name of its own; other RSA sizes are for policies that say so.
_KEYS: Final = tuple(algorithm for algorithm in KeyAlgorithm if algorithm is not KeyAlgorithm.RSA_OTHER)
_TLS_USAGES: Final = KeyUsageRule(
    allowed=(KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT, KeyUsage.KEY_AGREEMENT)
)
_YEAR: Final = timedelta(days=365)
_TLS_YEAR: Final = timedelta(days=398)  # what browsers accepted of a TLS server when this was written
# Any attributes, but a common name among them.
_NAMED: Final = tuple(
    SubjectRule(kind, required=("*",) if kind is SubjectType.COMMON_NAME else ()) for kind in SubjectType
)


def _hosts(*more: SanType) -> tuple[SanRule, ...]:
    return tuple(SanRule(kind) for kind in (SanType.DNS_NAME, SanType.IP_ADDRESS, *more))


PRESETS: Final[dict[str, Policy]] = {
    "tls-server": Policy(
        id="",
        name="tls-server",
        sans=_hosts(),
        key_usages=_TLS_USAGES,
        extended_key_usages=ExtendedKeyUsageRule(allowed=(_SERVER,), required=(_SERVER,)),
        key_algorithms=_KEYS,
        max_validity=_TLS_YEAR,
    ),
    "tls-client": Policy(
        id="",
        name="tls-client",
        sans=_hosts(SanType.EMAIL, SanType.URI, SanType.UPN),
        key_usages=_TLS_USAGES,
        extended_key_usages=ExtendedKeyUsageRule(allowed=(_CLIENT,), required=(_CLIENT,)),
        key_algorithms=_KEYS,
        max_validity=_TLS_YEAR,
    ),
    "dual": Policy(
        id="",
        name="dual",
        sans=_hosts(SanType.EMAIL, SanType.URI),
        key_usages=_TLS_USAGES,
        extended_key_usages=ExtendedKeyUsageRule(allowed=(_SERVER, _CLIENT), required=(_SERVER, _CLIENT)),
        key_algorithms=_KEYS,
        max_validity=_TLS_YEAR,
    ),
    "device": Policy(
        id="",
        name="device",
        sans=_hosts(SanType.EMAIL, SanType.URI),
        key_usages=_TLS_USAGES,
        extended_key_usages=ExtendedKeyUsageRule(allowed=(_CLIENT, _SERVER), required=(_CLIENT,)),
        key_algorithms=_KEYS,
        max_validity=3 * _YEAR,
    ),
    "user": Policy(
        id="",
        name="user",
        subject=_NAMED,
        sans=(SanRule(SanType.EMAIL), SanRule(SanType.UPN)),
        key_usages=_TLS_USAGES,
        extended_key_usages=ExtendedKeyUsageRule(allowed=(_CLIENT, _MAIL), required=(_CLIENT,)),
        key_algorithms=_KEYS,
        max_validity=2 * _YEAR,
    ),
    "email": Policy(
        id="",
        name="email",
        sans=(SanRule(SanType.EMAIL, required=("*",)),),
        key_usages=KeyUsageRule(
            allowed=(
                KeyUsage.DIGITAL_SIGNATURE,
                KeyUsage.CONTENT_COMMITMENT,
                KeyUsage.KEY_ENCIPHERMENT,
                KeyUsage.KEY_AGREEMENT,
            )
        ),
        extended_key_usages=ExtendedKeyUsageRule(allowed=(_MAIL, _CLIENT), required=(_MAIL,)),
        key_algorithms=_KEYS,
        max_validity=2 * _YEAR,
    ),
    "code-signing": Policy(
        id="",
        name="code-signing",
        subject=_NAMED,
        sans=(),
        key_usages=KeyUsageRule(allowed=(), required=(KeyUsage.DIGITAL_SIGNATURE,)),
        extended_key_usages=ExtendedKeyUsageRule(allowed=(), required=(_CODE,)),
        key_algorithms=_KEYS,
        max_validity=2 * _YEAR,
    ),
    "intermediate-ca": Policy(
        id="",
        name="intermediate-ca",
        subject=_NAMED,
        sans=(),
        key_usages=KeyUsageRule(
            allowed=(KeyUsage.DIGITAL_SIGNATURE,), required=(KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN)
        ),
        extended_key_usages=ExtendedKeyUsageRule(allowed=()),
        key_algorithms=_KEYS,
        max_validity=10 * _YEAR,
        basic_constraints=BasicConstraints(ca=True, path_length=0),
    ),
}
"""By name. Each is used with an id and a name of its own; sections that a declaration gives replace the preset's."""
