"""A small SCEP client, whole and independent of `protocols`: it writes requests and reads CertReps (RFC 8894).

Built on asn1crypto and cryptography only, so that what both sides agree on is the standard, not a shared mistake. Every
choice that clients in the field make differently is an argument.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass, field

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

SCEP_ARC = "2.16.840.1.113733.1.9"
PKCS_REQ, RENEWAL_REQ = 19, 17
DIGESTS = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
KEY_LENGTHS = {"aes128_cbc": 16, "aes192_cbc": 24, "aes256_cbc": 32}


class _Texts(core.SetOf):
    _child_spec = core.Any


class _OctetStrings(core.SetOf):
    _child_spec = core.OctetString


for number, name, spec in (
    (2, "scep_message_type", _Texts),
    (3, "scep_pki_status", _Texts),
    (4, "scep_fail_info", _Texts),
    (5, "scep_sender_nonce", _OctetStrings),
    (6, "scep_recipient_nonce", _OctetStrings),
    (7, "scep_transaction_id", _Texts),
):
    cms.CMSAttributeType._map[f"{SCEP_ARC}.{number}"] = name
    cms.CMSAttribute._oid_specs[name] = spec
cms.CMSAttributeType._map["1.3.6.1.5.5.7.24.1"] = "scep_fail_info_text"
cms.CMSAttribute._oid_specs["scep_fail_info_text"] = _Texts


def self_signed(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, common_name: str = "device-1", *, ski: bool = False
) -> x509.Certificate:
    """The certificate that a client without one signs its first request with."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - dt.timedelta(hours=1), now + dt.timedelta(7)
    )
    if ski:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def certification_request(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    common_name: str = "device-1",
    *,
    challenge: str | None = None,
    dns: tuple[str, ...] = (),
) -> bytes:
    """A PKCS#10, DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    )
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in dns]), False)
    if challenge is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class CertRep:
    """What an answer says. `certificates` are DER, out of the envelope; empty unless `status` is "0"."""

    status: str
    fail_info: str | None
    text: str | None
    transaction_id: bytes
    recipient_nonce: bytes
    sender_nonce: bytes
    certificates: tuple[bytes, ...]
    digest: str
    cipher: str | None


@dataclass
class ScepClient:
    """One client: the key and certificate it signs with, and how it likes to write.

    `cipher` is a key of `KEY_LENGTHS`, or `tripledes_3key` to be refused. `transport` is pkcs1v15, oaep-sha1 or oaep-sha256.
    `signature` is rsa (the bare identifier), sha-with-rsa, pss or ecdsa. `by_key_identifier` names signer and recipient so.
    """

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    digest: str = "sha256"
    cipher: str = "aes128_cbc"
    transport: str = "pkcs1v15"
    signature: str = "rsa"
    by_key_identifier: bool = False
    transaction_id: bytes = b"transaction-1"
    sender_nonce: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def pki_message(
        self,
        content: bytes,
        ra: x509.Certificate,
        *,
        message_type: int | str = PKCS_REQ,
        string: type[core.Primitive] = core.PrintableString,
        drop: tuple[str, ...] = (),
        extra: tuple[cms.CMSAttribute, ...] = (),
        content_key: bytes | None = None,
        envelope: bytes | None = None,
    ) -> bytes:
        """A pkiMessage with `content` enveloped for `ra`: what goes into the body of a POST.

        `drop` leaves attributes out, `extra` adds some; `envelope` stands in place of the one made here.
        """
        enveloped = self.envelope(content, ra, content_key) if envelope is None else envelope
        return self.sign(enveloped, self.attributes(enveloped, message_type, string, drop, extra))

    def envelope(self, content: bytes, ra: x509.Certificate, content_key: bytes | None = None) -> bytes:
        """EnvelopedData for `ra`."""
        length = KEY_LENGTHS.get(self.cipher, 16)
        key = secrets.token_bytes(length)
        iv = secrets.token_bytes(16)
        count = 16 - len(content) % 16
        encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(content + bytes([count]) * count) + encryptor.finalize()
        parameters = {"tripledes_3key": iv[:8]}.get(self.cipher, iv)
        recipient = {
            "version": "v0",
            "rid": self._identifier(cms.RecipientIdentifier, ra),
            "key_encryption_algorithm": self._transport(),
            "encrypted_key": ra.public_key().encrypt(content_key or key, self._padding()),
        }
        return cms.ContentInfo(
            {
                "content_type": "enveloped_data",
                "content": {
                    "version": "v0",
                    "recipient_infos": [cms.RecipientInfo("ktri", recipient)],
                    "encrypted_content_info": {
                        "content_type": "data",
                        "content_encryption_algorithm": {"algorithm": self.cipher, "parameters": parameters},
                        "encrypted_content": ciphertext,
                    },
                },
            }
        ).dump()

    def _padding(self) -> padding.AsymmetricPadding:
        if self.transport == "pkcs1v15":
            return padding.PKCS1v15()
        digest = DIGESTS[self.transport.removeprefix("oaep-")]
        return padding.OAEP(padding.MGF1(digest), digest, None)

    def _transport(self) -> dict[str, object]:
        if self.transport == "pkcs1v15":
            return {"algorithm": "rsaes_pkcs1v15"}
        name = self.transport.removeprefix("oaep-")
        return {
            "algorithm": "rsaes_oaep",
            "parameters": algos.RSAESOAEPParams(
                {
                    "hash_algorithm": {"algorithm": name},
                    "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": name}},
                }
            ),
        }

    def _identifier(self, kind: type[core.Choice], certificate: x509.Certificate) -> core.Choice:
        parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
        if self.by_key_identifier:
            return kind(
                "subject_key_identifier", x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
            )
        return kind("issuer_and_serial_number", {"issuer": parsed.issuer, "serial_number": parsed.serial_number})

    def attributes(
        self,
        content: bytes,
        message_type: int | str = PKCS_REQ,
        string: type[core.Primitive] = core.PrintableString,
        drop: tuple[str, ...] = (),
        extra: tuple[cms.CMSAttribute, ...] = (),
    ) -> cms.CMSAttributes:
        """The signed attributes of a request."""
        hashed = hashlib.new(self.digest, content).digest()
        values: dict[str, object] = {
            "content_type": [cms.ContentType("data")],
            "message_digest": [hashed],
            "scep_message_type": [string(str(message_type))],
            "scep_transaction_id": [string(self.transaction_id.decode("latin-1"))],
            "scep_sender_nonce": [self.sender_nonce],
        }
        kept = [cms.CMSAttribute({"type": k, "values": v}) for k, v in values.items() if k not in drop]
        return cms.CMSAttributes([*kept, *extra])

    def sign(self, content: bytes | None, attributes: cms.CMSAttributes, *, certificates: int = 1) -> bytes:
        """SignedData around `content` with these signed attributes."""
        encapsulated: dict[str, object] = {"content_type": "data"}
        if content is not None:
            encapsulated["content"] = content
        parsed = asn1_x509.Certificate.load(self.certificate.public_bytes(Encoding.DER))
        signer = {
            "version": "v3" if self.by_key_identifier else "v1",
            "sid": self._identifier(cms.SignerIdentifier, self.certificate),
            "digest_algorithm": {"algorithm": self.digest},
            "signed_attrs": attributes,
            "signature_algorithm": self._signature_algorithm(),
            "signature": self.raw_signature(attributes.dump()),
        }
        return cms.ContentInfo(
            {
                "content_type": "signed_data",
                "content": {
                    "version": "v1",
                    "digest_algorithms": [{"algorithm": self.digest}],
                    "encap_content_info": encapsulated,
                    "certificates": [parsed] * certificates,
                    "signer_infos": [signer],
                },
            }
        ).dump()

    def _signature_algorithm(self) -> dict[str, object]:
        match self.signature:
            case "rsa":
                return {"algorithm": "rsassa_pkcs1v15"}
            case "sha-with-rsa":
                return {"algorithm": f"{self.digest}_rsa"}
            case "pss":
                return {
                    "algorithm": "rsassa_pss",
                    "parameters": algos.RSASSAPSSParams(
                        {
                            "hash_algorithm": {"algorithm": self.digest},
                            "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": self.digest}},
                            "salt_length": DIGESTS[self.digest].digest_size,
                        }
                    ),
                }
            case _:
                return {"algorithm": f"{self.digest}_ecdsa"}

    def raw_signature(self, signed: bytes) -> bytes:
        """The signature over these octets."""
        digest = DIGESTS[self.digest]
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(signed, ec.ECDSA(digest))
        if self.signature == "pss":
            return self.key.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return self.key.sign(signed, padding.PKCS1v15(), digest)

    def read(self, octets: bytes, ra: x509.Certificate) -> CertRep:
        """Verify a CertRep with the RA's key, open it, and say what it says. Raises where anything is not as it must be."""
        info = cms.ContentInfo.load(octets, strict=True)
        assert info.dump(force=True) == octets, "not DER"
        signed = info["content"]
        (signer,) = signed["signer_infos"]
        attributes = {attribute["type"].native: attribute["values"] for attribute in signer["signed_attrs"]}
        assert all(len(values) == 1 for values in attributes.values())
        content = signed["encap_content_info"]["content"].native
        digest = signer["digest_algorithm"]["algorithm"].native
        assert attributes["content_type"][0].native == signed["encap_content_info"]["content_type"].native == "data"
        assert attributes["message_digest"][0].native == hashlib.new(digest, content or b"").digest()
        to_be_signed = signer["signed_attrs"].untag().dump()
        ra.public_key().verify(signer["signature"].native, to_be_signed, padding.PKCS1v15(), DIGESTS[digest])
        assert attributes["scep_message_type"][0].native == "3"
        fail_info = attributes.get("scep_fail_info")
        text = attributes.get("scep_fail_info_text")
        opened, cipher = ((), None) if content is None else self._open(content)
        return CertRep(
            status=attributes["scep_pki_status"][0].native,
            fail_info=None if fail_info is None else fail_info[0].native,
            text=None if text is None else text[0].native,
            transaction_id=attributes["scep_transaction_id"][0].parse().contents,
            recipient_nonce=attributes["scep_recipient_nonce"][0].native,
            sender_nonce=attributes["scep_sender_nonce"][0].native,
            certificates=opened,
            digest=digest,
            cipher=cipher,
        )

    def _open(self, octets: bytes) -> tuple[tuple[bytes, ...], str]:
        enveloped = cms.ContentInfo.load(octets, strict=True)["content"]
        (recipient,) = enveloped["recipient_infos"]
        mine = asn1_x509.Certificate.load(self.certificate.public_bytes(Encoding.DER))
        named = recipient.chosen["rid"].chosen
        assert named["serial_number"].native == mine.serial_number
        assert named["issuer"].dump() == mine.issuer.dump()
        assert isinstance(self.key, rsa.RSAPrivateKey)
        key = self.key.decrypt(recipient.chosen["encrypted_key"].native, self._padding())
        info = enveloped["encrypted_content_info"]
        cipher = info["content_encryption_algorithm"]
        decryptor = Cipher(algorithms.AES(key), modes.CBC(cipher["parameters"].native)).decryptor()
        padded = decryptor.update(info["encrypted_content"].native) + decryptor.finalize()
        bag = cms.ContentInfo.load(padded[: -padded[-1]], strict=True)["content"]
        return tuple(each.chosen.dump() for each in bag["certificates"]), cipher["algorithm"].native
