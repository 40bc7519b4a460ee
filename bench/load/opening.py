"""What a SCEP server encrypted to a device (RFC 8894, 3.1; RFC 5652, 6), in whichever cipher it chose.

Servers answer in ciphers that Muster takes from nobody: DES from those built on old libraries, whatever was asked for.
"""

from __future__ import annotations

from typing import Final

from asn1crypto import cms
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as transport
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from bench.load.conversation import Failed

_DES_KEY: Final = 8  # octets
_OAEP: Final = {each.name: each for each in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())}


def opened(envelope: bytes, key: rsa.RSAPrivateKey, issuer: bytes, serial: int) -> bytes:
    """The content of a ContentInfo with EnvelopedData for the certificate with this issuer (DER) and serial.

    Raises Failed where it is for somebody else, in another cipher than AES, DES or Triple DES in CBC mode, or damaged.
    """
    try:
        enveloped = cms.ContentInfo.load(envelope)["content"]
        recipient = _ours(enveloped["recipient_infos"], issuer, serial)
        content = enveloped["encrypted_content_info"]
        algorithm = content["content_encryption_algorithm"]
        content_key = key.decrypt(recipient["encrypted_key"].native, _transport(recipient["key_encryption_algorithm"]))
        cipher = _cipher(algorithm, content_key)
        decryptor = Cipher(cipher, modes.CBC(algorithm.encryption_iv)).decryptor()
        padded = decryptor.update(content["encrypted_content"].native) + decryptor.finalize()
        unpadder = padding.PKCS7(cipher.block_size).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except (ValueError, TypeError, KeyError) as error:
        raise Failed(f"the reply cannot be opened: {error}") from error


def _ours(recipients: cms.RecipientInfos, issuer: bytes, serial: int) -> cms.KeyTransRecipientInfo:
    """The recipient that is named so; a lone one is believed to be us, however it is named."""
    transported = [each.chosen for each in recipients if each.name == "ktri"]
    for each in transported:
        name = each["rid"].chosen
        if each["rid"].name == "issuer_and_serial_number" and (name["issuer"].dump(), name["serial_number"].native) == (
            issuer,
            serial,
        ):
            return each
    if len(transported) == 1:
        return transported[0]
    raise Failed("the reply is for somebody else")


def _transport(algorithm: cms.KeyEncryptionAlgorithm) -> transport.AsymmetricPadding:
    if algorithm["algorithm"].native != "rsaes_oaep":
        return transport.PKCS1v15()
    parameters = algorithm["parameters"]
    digest = _OAEP[parameters["hash_algorithm"]["algorithm"].native]
    masked = _OAEP[parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native]
    return transport.OAEP(transport.MGF1(masked), digest, None)


def _cipher(algorithm: cms.EncryptionAlgorithm, key: bytes) -> BlockCipherAlgorithm:
    try:
        kind = (algorithm.encryption_cipher, algorithm.encryption_mode)
    except ValueError:
        kind = ("", "")
    match kind:
        case ("aes", "cbc"):
            return AES(key)
        case ("des" | "tripledes", "cbc"):
            return TripleDES(key * 3 if len(key) == _DES_KEY else key)
        case _:
            name = algorithm["algorithm"].native
            raise Failed(f"the reply's cipher, {name}, is not one that is opened here: AES or DES in CBC mode")
