"""Names of key usages and extended key usages, and the extensions of a request or certificate read into them.

Only reading: which usages a certificate gets is the policy's affair, building it the signer's.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

# RFC 5280, 4.2.1.3, in the order of the bits, as cryptography's attributes and as the RFC spells them.
KEY_USAGES: Final = (
    ("digital_signature", "digitalSignature"),
    ("content_commitment", "nonRepudiation"),
    ("key_encipherment", "keyEncipherment"),
    ("data_encipherment", "dataEncipherment"),
    ("key_agreement", "keyAgreement"),
    ("key_cert_sign", "keyCertSign"),
    ("crl_sign", "cRLSign"),
    ("encipher_only", "encipherOnly"),
    ("decipher_only", "decipherOnly"),
)

EXTENDED_KEY_USAGES: Final = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "ipsecEndSystem": "1.3.6.1.5.5.7.3.5",
    "ipsecIKE": "1.3.6.1.5.5.7.3.17",
    "cmcRA": "1.3.6.1.5.5.7.3.28",
    "anyExtendedKeyUsage": "2.5.29.37.0",
    "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
}
"""RFC 5280, 4.2.1.12; RFC 4945; RFC 6402; and Microsoft's one."""

EXTENDED_KEY_USAGE_NAMES: Final = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}


def key_usages(usage: x509.KeyUsage) -> tuple[str, ...]:
    """The usages asked for, as RFC 5280 spells them, in the order of the bits."""
    found = [spelled for attribute, spelled in KEY_USAGES[:7] if getattr(usage, attribute)]
    # cryptography refuses to read the last two unless key agreement is set: they mean nothing alone (4.2.1.3).
    if usage.key_agreement:
        found += [spelled for attribute, spelled in KEY_USAGES[7:] if getattr(usage, attribute)]
    return tuple(found)


def extended_key_usages(usage: x509.ExtendedKeyUsage) -> tuple[str, ...]:
    """The purposes asked for, as dotted OIDs."""
    return tuple(oid.dotted_string for oid in usage)
