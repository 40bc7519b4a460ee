"""OCSP requests (RFC 6960, 4.1; RFC 5019, 2.1; RFC 8954; D19)."""

import base64
import contextlib
import datetime as dt
from functools import cache
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.exchange import Malformed, Reason, Refused
from protocols.pkix.ocsp import (
    MAX_EXTENSIONS,
    MAX_IDS,
    MAX_REQUEST,
    CertId,
    ResponseStatus,
    StatusRequest,
    failure,
    from_path,
    issuer_hashes,
    read_elements,
    read_request,
    usual,
)

HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
NONCE = bytes.fromhex("06092b0601050507300102")
OTHER = bytes.fromhex("06032a0304")


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 128:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def seq(*contents: bytes) -> bytes:
    return tlv(0x30, *contents)


SHA1 = seq(bytes.fromhex("06052b0e03021a0500"))
SHA256 = seq(bytes.fromhex("06096086480165030402010500"))


def cert_id(
    algorithm: bytes = SHA1, name: bytes = b"n" * 20, key: bytes = b"k" * 20, serial: bytes = b"\x05", more: bytes = b""
) -> bytes:
    return seq(algorithm, tlv(4, name), tlv(4, key), tlv(2, serial), more)


def extension(oid: bytes = NONCE, value: bytes = tlv(4, b"n"), critical: bytes = b"") -> bytes:
    return seq(oid, critical, tlv(4, value))


def tbs(*requests: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return seq(before, seq(*(requests or (seq(cert_id()),))), after)


def with_extensions(*extensions: bytes) -> bytes:
    return seq(tbs(after=tlv(0xA2, seq(*extensions))))


@cache
def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=Root,O=Example")
    now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1234567890123, now, now + dt.timedelta(days=9))
    return builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())


def built(digest: str = "sha1", nonce: bytes | None = None) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate(), certificate(), HASHES[digest]())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@pytest.mark.parametrize("digest", sorted(HASHES))
def test_a_request_names_its_certificate_and_its_issuer_is_recognized(digest: str):
    """RFC 6960, 4.1.1."""
    [asked] = read_request(built(digest)).ids
    assert asked.digest == digest
    assert asked.hexadecimal == f"{1234567890123:x}"
    der = certificate().public_bytes(Encoding.DER)
    assert (asked.name_hash, asked.key_hash) == issuer_hashes(der, digest)


@pytest.mark.parametrize("nonce", [b"\x00", b"n" * 16, b"n" * 32])
def test_a_nonce_is_read(nonce: bytes):
    """RFC 8954, 2.1."""
    assert read_request(built(nonce=nonce)).nonce == nonce


@pytest.mark.parametrize("value", [tlv(4, b""), tlv(4, b"n" * 33), b"", b"raw", tlv(4, b"n") + b"\0", tlv(2, b"\x05")])
def test_a_nonce_of_another_length_or_kind_is_malformed(value: bytes):
    """RFC 8954, 2.1: 0 octets and more than 32 are a malformedRequest."""
    with pytest.raises(Malformed):
        read_request(with_extensions(extension(value=value)))


def test_several_certificates_are_read_in_their_order():
    request = seq(tbs(seq(cert_id()), seq(cert_id(serial=b"\x00\xff")), seq(cert_id(serial=b"\x80"))))
    assert [each.hexadecimal for each in read_request(request).ids] == ["5", "ff", ""]


def test_a_serial_of_zero_is_none_of_the_inventory():
    assert CertId("sha1", b"", b"", b"\x00").hexadecimal == ""


def test_a_digest_comes_with_a_null_or_without():
    """RFC 5754, 2: both are in use; the answer repeats what was asked."""
    bare = seq(bytes.fromhex("06052b0e03021a"))
    asked = read_request(seq(tbs(seq(cert_id(bare)), seq(cert_id())))).ids
    assert [each.parameters for each in asked] == [False, True]


@pytest.mark.parametrize(
    "before",
    [tlv(0xA0, b"\x02\x01\x00"), tlv(0xA1, b"\x82\x01a"), tlv(0xA0, b"\x02\x01\x00") + tlv(0xA1, b"\x82\x01a")],
)
def test_a_version_that_is_written_and_a_requestors_name_are_passed_by(before: bytes):
    """RFC 5019, 2.1.2: prepared for requests with a requestorName."""
    assert read_request(seq(tbs(before=before))) == read_request(seq(tbs()))


def test_a_signature_is_passed_by():
    """RFC 5019, 2.1.2."""
    assert read_request(seq(tbs(), tlv(0xA0, seq(b"")))) == read_request(seq(tbs()))


@pytest.mark.parametrize("critical", [b"", tlv(1, b"\xff"), tlv(1, b"\0")])
def test_a_nonce_may_be_critical_or_not(critical: bytes):
    assert read_request(with_extensions(extension(critical=critical))).nonce == b"n"


def test_extensions_that_are_not_critical_are_passed_by():
    """RFC 6960, 4.1.2."""
    one = extension(OTHER, b"anything")
    request = seq(tbs(seq(cert_id(), tlv(0xA0, seq(one))), after=tlv(0xA2, seq(one, extension()))))
    assert read_request(request) == StatusRequest(read_request(seq(tbs())).ids, b"n")


def test_acceptable_responses_may_be_critical():
    oid = bytes.fromhex("06092b0601050507300104")
    assert read_request(with_extensions(extension(oid, seq(b""), tlv(1, b"\xff")))).nonce == b""


CRITICAL = tlv(1, b"\xff")
DAMAGED = {
    "empty": b"",
    "something behind it": seq(tbs()) + b"\0",
    "no sequence": tlv(4, b""),
    "behind the signature": seq(tbs(), tlv(0xA0, b""), tlv(0xA0, b"")),
    "no signature": seq(tbs(), tlv(0xA1, b"")),
    "version 2": seq(tbs(before=tlv(0xA0, b"\x02\x01\x01"))),
    "nothing": seq(seq(seq(b""))),
    "no list": seq(seq(tlv(4, b""))),
    "no sequence in the list": seq(tbs(tlv(4, b""))),
    "extensions' tag": seq(tbs(after=tlv(0xA3, seq(b"")))),
    "behind the extensions": seq(tbs(after=tlv(0xA2, seq(b"")) + b"\x05\x00")),
    "behind the sequence of extensions": seq(tbs(after=tlv(0xA2, seq(b""), b"\x05\x00"))),
    "behind the extensions of one": seq(tbs(seq(cert_id(), tlv(0xA0, seq(b"")), b"\x05\x00"))),
    "critical": with_extensions(extension(OTHER, b"", CRITICAL)),
    "critical, for one": seq(tbs(seq(cert_id(), tlv(0xA0, seq(extension(OTHER, b"", CRITICAL)))))),
    "twice": with_extensions(extension(), extension()),
    "no extension": with_extensions(tlv(4, b"")),
    "a boolean of another kind": with_extensions(extension(OTHER, b"", tlv(1, b"\x01"))),
    "a value of another kind": with_extensions(seq(OTHER, tlv(2, b"\x05"))),
    "something behind a value": with_extensions(seq(OTHER, tlv(4, b""), b"\x05\x00")),
    "parameters": seq(tbs(seq(cert_id(seq(bytes.fromhex("06052b0e03021a020105")))))),
    "behind the serial": seq(tbs(seq(cert_id(more=b"\x05\x00")))),
    "a serial of nothing": seq(tbs(seq(cert_id(serial=b"")))),
    "a long serial": seq(tbs(seq(cert_id(serial=b"\x01" * 33)))),
    "a serial with a zero too many": seq(tbs(seq(cert_id(serial=b"\x00\x01")))),
    "a negative serial with a one too many": seq(tbs(seq(cert_id(serial=b"\xff\x80")))),
    "a short hash": seq(tbs(seq(cert_id(name=b"n" * 19)))),
    "a long hash": seq(tbs(seq(cert_id(key=b"k" * 32)))),
}


@pytest.mark.parametrize("what", sorted(DAMAGED))
def test_what_is_not_a_request_is_malformed(what: str):
    with pytest.raises(Malformed):
        read_request(DAMAGED[what])


def test_everything_is_bounded():
    assert len(read_request(seq(tbs(*[seq(cert_id())] * MAX_IDS))).ids) == MAX_IDS
    many = [extension(bytes((6, 2, 0x2A, n)), b"") for n in range(MAX_EXTENSIONS + 1)]
    assert read_request(with_extensions(*many[:-1])).nonce == b""
    for request in (
        seq(tbs(*[seq(cert_id())] * (MAX_IDS + 1))),
        with_extensions(*many),
        b"\x30" * (MAX_REQUEST + 1),
    ):
        with pytest.raises(Malformed):
            read_request(request)
    with pytest.raises(Malformed):
        from_path(b"A" * (4 * MAX_REQUEST + 1))


def test_a_digest_that_nobody_here_knows_is_refused():
    """RFC 5019, 2.2.3: no authoritative answer could be given."""
    with pytest.raises(Refused) as caught:
        read_request(seq(tbs(seq(cert_id(seq(bytes.fromhex("06082a864886f70d02050500")))))))
    assert caught.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize("safe", ["", "/", "/+", "/+="])
@pytest.mark.parametrize("before", ["", "/"])
def test_a_path_is_read_however_much_of_it_was_encoded(safe: str, before: str):
    """RFC 6960, A.1."""
    for last in range(40):
        der = bytes(range(200, 256)) * 2 + bytes(range(last))
        assert from_path((before + quote(base64.b64encode(der).decode(), safe=safe)).encode()) == der


def test_a_path_may_lack_its_padding_and_have_line_ends():
    der = bytes(range(100))
    assert from_path(base64.b64encode(der).rstrip(b"=")) == der
    assert from_path(quote(base64.encodebytes(der).decode()).encode()) == der


@pytest.mark.parametrize("path", [b"A", b"*", b"AAAA-_AA", b"%zz", "é".encode(), b"AAAA AAA"])
def test_a_path_that_is_not_base64_is_malformed(path: bytes):
    with pytest.raises(Malformed):
        from_path(path)


@pytest.mark.parametrize("status", ResponseStatus)
def test_a_failure_is_what_others_read(status: ResponseStatus):
    """RFC 6960, 4.2.1."""
    assert ocsp.load_der_ocsp_response(failure(status)).response_status.value == status


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_not(data: bytes):
    _outcome(data)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_damaged_request_is_read_as_others_read_it_or_refused(data: st.DataObject):
    whole = bytearray(data.draw(st.sampled_from([built(), built("sha256", b"n" * 16), with_extensions(extension())])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole))) :]
    mine = _outcome(bytes(whole))
    if mine is None or len(mine.ids) != 1:
        return
    try:
        theirs = ocsp.load_der_ocsp_request(bytes(whole))
        said = theirs.serial_number, theirs.issuer_name_hash, theirs.issuer_key_hash
    except (ValueError, UnsupportedAlgorithm):
        return
    [asked] = mine.ids
    assert said == (int.from_bytes(asked.serial, "big", signed=True), asked.name_hash, asked.key_hash)


def _outcome(data: bytes) -> StatusRequest | None:
    try:
        return read_request(data)
    except (Malformed, Refused):
        return None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_path_is_base64_or_not(path: bytes):
    with contextlib.suppress(Malformed):
        from_path(path)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(HASHES)), st.integers(1, 2**159 - 1)), min_size=1, max_size=5),
    st.binary(max_size=32),
)
def test_what_was_asked_is_what_is_read(asked: list[tuple[str, int]], nonce: bytes):
    oids = {"sha1": "06052b0e03021a", "sha256": "0609608648016503040201"}
    oids |= {"sha384": "0609608648016503040202", "sha512": "0609608648016503040203"}
    requests = []
    for digest, serial in asked:
        size = HASHES[digest].digest_size
        octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        algorithm = seq(bytes.fromhex(oids[digest]))
        requests.append(seq(cert_id(algorithm, b"n" * size, b"k" * size, octets)))
    after = tlv(0xA2, seq(extension(value=tlv(4, nonce)))) if nonce else b""
    made = read_request(seq(tbs(*requests, after=after)))
    assert [(each.digest, int(each.hexadecimal, 16)) for each in made.ids] == asked
    assert made.nonce == nonce


def outcome(read: object, data: bytes) -> object:
    try:
        return read(data)  # type: ignore[operator]
    except (Malformed, Refused) as refused:
        return str(refused)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["sha1", "sha256", "sha384"]),
    st.binary(max_size=34),
    st.none() | st.binary(max_size=34),
    st.lists(st.tuples(st.integers(0, 240), st.integers(0, 255)), max_size=1),
    st.integers(-3, 3),
)
def test_the_usual_question_is_read_as_any_other(digest: str, serial: bytes, nonce: bytes | None, changes, cut: int):
    """X.690, 10.1: what was compared octet for octet has no other meaning; whatever else there is has its own reader."""
    size = HASHES[digest].digest_size
    algorithm = {"sha1": SHA1, "sha256": SHA256, "sha384": seq(bytes.fromhex("06096086480165030402020500"))}[digest]
    asked = seq(cert_id(algorithm, b"n" * size, b"k" * size, serial))
    after = b"" if nonce is None else tlv(0xA2, seq(extension(value=tlv(4, nonce))))
    data = bytearray(seq(tbs(asked, after=after)))
    for at, octet in changes:
        data[at % len(data)] = octet
    made = bytes(data[:cut] if cut < 0 else data + b"x" * cut)
    found = usual(made)
    assert found is None or found == read_elements(made)
    assert outcome(read_request, made) == outcome(read_elements, made)


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
@pytest.mark.parametrize("nonce", [b"", b"n", b"n" * 32])
@pytest.mark.parametrize("serial", [b"\x05", b"\x00\x85", b"\x7b" * 20, b"\x01" * 32])
def test_what_clients_mostly_ask_is_usual(digest: str, nonce: bytes, serial: bytes):
    size = HASHES[digest].digest_size
    asked = seq(cert_id(SHA1 if digest == "sha1" else SHA256, b"n" * size, b"k" * size, serial))
    after = tlv(0xA2, seq(extension(value=tlv(4, nonce)))) if nonce else b""
    made = seq(tbs(asked, after=after))
    assert (
        usual(made) == StatusRequest((CertId(digest, b"n" * size, b"k" * size, serial),), nonce) == read_elements(made)
    )


def test_what_libraries_write_is_usual():
    for nonce in (None, b"n" * 16):
        assert usual(built("sha1", nonce)) is not None
        assert usual(built("sha256", nonce)) is not None
