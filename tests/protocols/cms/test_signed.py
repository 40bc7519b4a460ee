"""SignedData: what clients send, and what the RA signs, with OpenSSL and asn1crypto as the other side."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from asn1crypto import algos, cms, core
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocols.cms import algorithms, certificate, der, signed
from protocols.cms.signed import Verdict
from protocols.exchange import Malformed
from tests.doubles.client_keys import ec_key, rsa_key
from tests.doubles.mutation import mutations
from tests.doubles.scep_client import ScepClient, self_signed


def rsa_client(**how: object) -> ScepClient:
    key = rsa_key("signer")
    return ScepClient(key, self_signed(key), **how)


def ec_client(**how: object) -> ScepClient:
    key = ec_key("signer")
    return ScepClient(key, self_signed(key), signature="ecdsa", **how)


def message(client: ScepClient, content: bytes = b"content", **how: object) -> bytes:
    return client.sign(content, client.attributes(content, **how))


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("signature", ["rsa", "sha-with-rsa", "pss", "ecdsa"])
def test_every_digest_with_every_signature_verifies(digest: str, signature: str):
    """S44, S45."""
    make = ec_client if signature == "ecdsa" else rsa_client
    client = make(digest=digest) if signature == "ecdsa" else make(digest=digest, signature=signature)
    read = signed.parse(message(client))
    assert read.content == b"content"
    assert read.digest is not None
    assert read.digest.name == digest
    assert signed.verify(read) is Verdict.VALID


@pytest.mark.parametrize("ski", [True, False])
def test_a_signer_named_by_key_identifier_is_found(ski: bool):
    """S41: written in the certificate, or computed."""
    key = rsa_key("signer")
    client = ScepClient(key, self_signed(key, ski=ski), by_key_identifier=True)
    assert signed.verify(signed.parse(message(client))) is Verdict.VALID


def test_a_message_of_openssl_verifies_in_der_and_in_ber(tmp_path: Path):
    """S39: `-stream` writes indefinite lengths and an OCTET STRING in pieces."""
    key = rsa_key("signer")
    cert = self_signed(key, ski=True)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    content = bytes(range(256)) * 60
    (tmp_path / "content").write_bytes(content)
    command = [
        "openssl",
        "cms",
        "-sign",
        "-binary",
        "-nodetach",
        "-in",
        "content",
        "-signer",
        "cert.pem",
        "-inkey",
        "key.pem",
        "-outform",
        "DER",
    ]
    written = [
        subprocess.run([*command, *extra], cwd=tmp_path, capture_output=True, check=True).stdout
        for extra in ([], ["-stream"], ["-keyid"], ["-keyopt", "rsa_padding_mode:pss"])
    ]
    assert written[0][1] == 0x82
    assert written[1][1] == 0x80
    for octets in written:
        read = signed.parse(octets)
        assert read.content == content
        assert signed.verify(read) is Verdict.VALID
        assert signed.parse(octets + b"\r\n\0\0").content == content  # S40


def test_altered_content_and_forged_signatures_are_told_apart():
    """S46."""
    client = rsa_client()
    attributes = client.attributes(b"content")
    assert signed.verify(signed.parse(client.sign(b"other", attributes))) is Verdict.ALTERED
    octets = client.sign(b"content", attributes)
    assert signed.verify(signed.parse(octets[:-1] + bytes([octets[-1] ^ 1]))) is Verdict.FORGED
    curve = ec_client()
    octets = curve.sign(b"content", curve.attributes(b"content"))
    curve.key = ec_key("somebody else")
    forged = curve.sign(b"content", curve.attributes(b"content"))
    assert signed.verify(signed.parse(octets)) is Verdict.VALID
    assert signed.verify(signed.parse(forged)) is Verdict.FORGED


@pytest.mark.parametrize("dropped", ["message_digest", "content_type"])
def test_both_attributes_of_cms_are_required(dropped: str):
    """RFC 5652, 5.3; S42."""
    assert signed.verify(signed.parse(message(rsa_client(), drop=(dropped,)))) is Verdict.ALTERED


def test_a_content_type_that_differs_is_an_alteration():
    client = rsa_client()
    wrong = cms.CMSAttribute({"type": "content_type", "values": ["signed_data"]})
    octets = message(client, drop=("content_type",), extra=(wrong,))
    assert signed.verify(signed.parse(octets)) is Verdict.ALTERED


def test_a_signer_without_a_certificate_is_nobody():
    client = rsa_client()
    octets = client.sign(b"content", client.attributes(b"content"), certificates=0)
    read = signed.parse(octets)
    assert read.signer is None
    assert signed.verify(read) is Verdict.FORGED
    client.certificate = self_signed(rsa_key("signer"))
    info = cms.ContentInfo.load(message(client))
    info["content"]["certificates"] = None
    assert signed.verify(signed.parse(info.dump(force=True))) is Verdict.FORGED


def test_certificates_of_others_and_unreadable_ones_are_passed_over():
    client = rsa_client()
    info = cms.ContentInfo.load(message(client))
    mine = info["content"]["certificates"][0].dump()
    other = self_signed(ec_key("x")).public_bytes(Encoding.DER)
    bag = der.tlv(0xA0, b"\xa1\x00" + der.sequence(der.NULL) + other + mine)
    whole = info["content"]["certificates"].dump()
    read = signed.parse(_replaced(info, whole, bag))
    assert signed.verify(read) is Verdict.VALID


def _replaced(info: cms.ContentInfo, old: bytes, new: bytes) -> bytes:
    """The message with one field's octets replaced, all lengths around it set right."""
    parts = [info["content"][name].dump() for name in ("version", "digest_algorithms", "encap_content_info")]
    parts += [info["content"]["certificates"].dump(), info["content"]["signer_infos"].dump()]
    assert old in parts
    body = der.sequence(*(new if part == old else part for part in parts))
    return der.sequence(algorithms.SIGNED_DATA, der.tlv(0xA0, body))


@pytest.mark.parametrize("curve", [False, True])
def test_an_order_that_is_not_der_verifies_as_signed_and_as_sent(curve: bool):
    """S43: some clients sign the DER SET OF, some what they send."""
    client = ec_client() if curve else rsa_client()
    attributes = client.attributes(b"content")
    canonical = attributes.dump()
    rows = [each.dump() for each in attributes]
    backwards = sorted(rows, reverse=True)
    for signs_what_it_sends in (True, False):
        info = cms.ContentInfo.load(client.sign(b"content", attributes))
        infos = info["content"]["signer_infos"]
        old = infos.dump()
        to_be_signed = der.tlv(0x31, b"".join(backwards)) if signs_what_it_sends else canonical
        signature = client.raw_signature(to_be_signed)
        signer = infos[0]
        new = der.tlv(
            0x31,
            der.sequence(
                signer["version"].dump(),
                signer["sid"].dump(),
                signer["digest_algorithm"].dump(),
                der.tlv(0xA0, b"".join(backwards)),
                signer["signature_algorithm"].dump(),
                der.octet_string(signature),
            ),
        )
        assert signed.verify(signed.parse(_replaced(info, old, new))) is Verdict.VALID


def test_unsupported_algorithms_are_said_to_be_so():
    """S44, S45: MD5, an unknown signature, a key that is too short, PSS with what nobody has."""
    short = rsa_key("short", 1024)
    client = ScepClient(short, self_signed(short))
    assert signed.verify(signed.parse(message(client))) is Verdict.UNSUPPORTED
    for client, name in ((rsa_client(), "sha224_rsa"), (ec_client(), "sha224_ecdsa")):
        info = cms.ContentInfo.load(message(client))
        info["content"]["signer_infos"][0]["signature_algorithm"] = {"algorithm": name}
        assert signed.verify(signed.parse(info.dump(force=True))) is Verdict.UNSUPPORTED
    info = cms.ContentInfo.load(message(rsa_client()))
    info["content"]["signer_infos"][0]["digest_algorithm"] = {"algorithm": "md5"}
    read = signed.parse(info.dump(force=True))
    assert read.digest is None
    assert signed.verify(read) is Verdict.UNSUPPORTED


def _with_pss(parameters: bytes | None) -> Verdict:
    client = rsa_client(signature="pss", digest="sha1")
    info = cms.ContentInfo.load(client.sign(b"content", client.attributes(b"content")))
    old = info["content"]["signer_infos"].dump()
    signer = info["content"]["signer_infos"][0]
    algorithm = der.sequence(algorithms.PSS, parameters or b"")
    new = der.tlv(0x31, der.sequence(*(
        algorithm if name == "signature_algorithm" else signer[name].dump()
        for name in ("version", "sid", "digest_algorithm", "signed_attrs", "signature_algorithm", "signature")
    )))  # fmt: skip
    return signed.verify(signed.parse(_replaced(info, old, new)))


def test_the_parameters_of_pss_have_defaults_and_limits():
    """RFC 8017, A.2.3: SHA-1, MGF1 with SHA-1, 20 octets of salt, trailer 1."""
    md5 = algos.DigestAlgorithm({"algorithm": "md5"}).dump()
    assert _with_pss(None) is Verdict.VALID
    assert _with_pss(der.sequence()) is Verdict.VALID
    assert _with_pss(der.sequence(der.tlv(0xA2, der.integer(20)), der.tlv(0xA3, der.integer(1)))) is Verdict.VALID
    assert _with_pss(der.sequence(der.tlv(0xA2, der.integer(21)))) is Verdict.FORGED
    assert _with_pss(der.sequence(der.tlv(0xA2, der.integer(500)))) is Verdict.FORGED
    for salt in (-1, 513, 2**70):
        assert _with_pss(der.sequence(der.tlv(0xA2, der.integer(salt)))) is Verdict.UNSUPPORTED
    assert _with_pss(der.sequence(der.tlv(0xA3, der.integer(2)))) is Verdict.UNSUPPORTED
    assert _with_pss(der.sequence(der.tlv(0xA0, md5))) is Verdict.UNSUPPORTED
    assert _with_pss(der.sequence(der.tlv(0xA1, md5))) is Verdict.UNSUPPORTED
    with pytest.raises(Malformed):
        _with_pss(der.sequence(der.tlv(0xA2, b"")))


def test_a_curve_that_the_library_cannot_use_is_unsupported():
    """An explicit curve, or one that this build leaves out: the library says so only when it is used."""
    from cryptography.exceptions import UnsupportedAlgorithm

    class Stubborn:
        def verify(self, *_: object) -> None:
            raise UnsupportedAlgorithm("no")

    read = signed.parse(message(ec_client()))
    assert signed._verify_ecdsa(read, Stubborn()) is Verdict.UNSUPPORTED


@pytest.mark.parametrize("version", ["cms", "pkcs7"])
def test_content_may_be_absent_and_must_be_octets(version: str):
    """RFC 5652, 5.2; S87."""
    client = rsa_client()
    octets = client.sign(None, client.attributes(b""))
    read = signed.parse(octets)
    assert read.content is None
    assert signed.verify(read) is Verdict.VALID
    info = cms.ContentInfo.load(octets)
    old = info["content"]["encap_content_info"].dump()
    inner = b"" if version == "cms" else der.integer(1)
    with pytest.raises(Malformed):
        signed.parse(_replaced(info, old, der.sequence(algorithms.DATA, der.tlv(0xA0, inner))))


def test_exactly_one_signer_with_signed_attributes_is_read():
    """S41, S42."""
    info = cms.ContentInfo.load(message(rsa_client()))
    infos = info["content"]["signer_infos"]
    one, old = infos[0].dump(), infos.dump()
    for signers in (b"", one + one, one * 9):
        with pytest.raises(Malformed):
            signed.parse(_replaced(info, old, der.tlv(0x31, signers)))
    infos[0]["signed_attrs"] = None
    with pytest.raises(Malformed, match="no signed attributes"):
        signed.parse(info.dump(force=True))


def test_attributes_come_once_and_not_by_the_hundred():
    """S52, S53."""
    client = rsa_client()
    twice = cms.CMSAttribute({"type": "scep_sender_nonce", "values": [b"x"]})
    with pytest.raises(Malformed, match="twice"):
        signed.parse(message(client, extra=(twice,)))
    many = tuple(cms.CMSAttribute({"type": f"1.2.3.{n}", "values": [core.Null()]}) for n in range(40))
    with pytest.raises(Malformed, match="more than 32"):
        signed.parse(message(client, extra=many))
    with pytest.raises(Malformed, match="more than 8"):
        signed.parse(client.sign(b"content", client.attributes(b"content"), certificates=9))


@pytest.mark.parametrize(
    "octets",
    [
        der.sequence(algorithms.ENVELOPED_DATA, der.tlv(0xA0, der.sequence())),
        der.sequence(algorithms.SIGNED_DATA, der.tlv(0xA0, b"")),
        der.sequence(algorithms.SIGNED_DATA, der.tlv(0xA0, der.sequence())),
        der.sequence(algorithms.SIGNED_DATA),
        b"<html>",
    ],
)
def test_what_is_not_signed_data_is_malformed(octets: bytes):
    with pytest.raises(Malformed):
        signed.parse(octets)


@pytest.mark.parametrize("content", [b"reply", None])
def test_what_the_ra_signs_verifies_with_openssl(tmp_path: Path, content: bytes | None):
    """S85, S88, S93: with content and without."""
    key = rsa_key("ra")
    cert = self_signed(key, "RA")
    ra = certificate.read(cert.public_bytes(Encoding.DER))
    other = signed.attribute(algorithms.SIGNING_TIME, der.tlv(der.UTC_TIME, b"300101000000Z"))
    to_be_signed = signed.attributes(content, algorithms.SHA256, [other])
    signature = key.sign(to_be_signed, padding.PKCS1v15(), algorithms.SHA256.hash)
    octets = signed.build(content, algorithms.SHA256, ra, to_be_signed, signature)
    assert cms.ContentInfo.load(octets, strict=True).dump(force=True) == octets
    assert signed.verify(signed.parse(octets)) is Verdict.VALID
    (tmp_path / "ra.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    command = [
        "openssl",
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-CAfile",
        "ra.pem",
        "-purpose",
        "any",
        "-no_check_time",
    ]
    detached = [] if content is not None else ["-content", "/dev/null"]
    done = subprocess.run([*command, *detached], cwd=tmp_path, input=octets, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (content or b"")


@pytest.mark.parametrize("octets", [0, 1, 60, 127, 128, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_a_message_is_der_at_every_length_of_its_content_and_attributes(octets: int, digest: str):
    """X.690, 10.1; S85: also where a message of these lengths was built before, of other octets."""
    key = rsa_key("ra")
    ra = certificate.read(self_signed(key, "RA").public_bytes(Encoding.DER))
    by = next(each for each in algorithms.DIGESTS.values() if each.name == digest)
    for letter in (b"x", b"y"):
        content = letter * octets
        other = signed.attribute(der.object_identifier("1.2.3.4"), der.octet_string(letter * (octets % 300)))
        to_be_signed = signed.attributes(content, by, [other])
        signature = key.sign(to_be_signed, padding.PKCS1v15(), by.hash)
        built = signed.build(content, by, ra, to_be_signed, signature)
        assert cms.ContentInfo.load(built, strict=True).dump(force=True) == built
        read = signed.parse(built)
        assert (read.content, read.signature, signed.verify(read)) == (content, signature, Verdict.VALID)


def test_damage_never_raises_anything_else():
    """S55: for each of the ways in which clients write."""
    corpus = [message(rsa_client()), message(rsa_client(by_key_identifier=True, signature="pss")), message(ec_client())]
    verdicts = set()
    for damaged in mutations(b"signed", 3000, corpus):
        try:
            verdicts.add(signed.verify(signed.parse(damaged)))
        except Malformed:
            verdicts.add(None)
    assert {None, Verdict.FORGED, Verdict.ALTERED} <= verdicts
