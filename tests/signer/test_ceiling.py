"""What a key may ever sign, whatever a gateway asks that may be somebody else's."""

import datetime as dt
from dataclasses import replace

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from signer.ceremony import DAY
from signer.contract.messages import GeneralName
from signer.contract.refusal import SignerRefusal
from signer.issuance import der
from signer.issuance.issue import prepare, prepared
from signer.issuance.issuer import issuer_of
from signer.issuance.refused import Refused
from signer.issuance.ticket import Tickets
from signer.keystore.key import KeyKind, NameRange
from tests.signer.kit import NOW, authority_ask, good_ask, issue, issued, issuer, refuses, root, spki, stored


def test_a_leaf_s_issuer_never_makes_an_authority():
    """D6."""
    refuses(SignerRefusal.CEILING, authority_ask())


def test_a_root_signs_authorities_only():
    refuses(SignerRefusal.CEILING, good_ask(), by=issuer_of(root()))


@pytest.mark.parametrize("path_length", [None, 2, 7])
def test_a_path_is_never_longer_than_the_issuer_s_own(path_length):
    """RFC 5280, 4.2.1.9: the root has 2, so 1 is the most below it."""
    refuses(SignerRefusal.CEILING, authority_ask(path_length=path_length), by=issuer_of(root()))


def test_an_issuer_of_path_length_zero_makes_no_authority_even_under_a_generous_ceiling():
    refuses(SignerRefusal.CEILING, authority_ask(), by=issuer(authorities=True))


def test_an_issuer_without_a_path_length_is_bound_by_its_ceiling():
    with_none = issuer_of(stored(KeyKind.ISSUER, "ED25519", (_self_signed_without_path_length(),)))
    assert with_none.path_length is None
    free = msgspec.structs.replace(with_none.key.ceiling, max_validity=400 * DAY, authorities=True)
    by = replace(with_none, key=replace(with_none.key, ceiling=free))
    issue(by, authority_ask(path_length=None), Tickets(), now=NOW)
    bound = msgspec.structs.replace(free, path_length=0)
    by = replace(with_none, key=replace(with_none.key, ceiling=bound))
    issue(by, authority_ask(path_length=0), Tickets(), now=NOW)
    refuses(SignerRefusal.CEILING, authority_ask(path_length=1), by=by)


def _self_signed_without_path_length() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Free")])
    start = dt.datetime.fromtimestamp(NOW - 400 * DAY, dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5, start, start + dt.timedelta(days=3000))
    return builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"not_after": NOW + 6 * 365 * DAY}, SignerRefusal.CEILING),
        ({"not_before": NOW - 2 * DAY}, SignerRefusal.TERM),
        ({"not_before": NOW + 3600 * DAY, "not_after": NOW + 3660 * DAY}, SignerRefusal.TERM),
    ],
)
def test_a_validity_stays_within_the_ceiling_and_the_issuer_s_own(changes, reason):
    """D4."""
    refuses(reason, good_ask(**changes))


def test_keys_of_an_algorithm_that_the_ceiling_leaves_out_are_refused():
    by = issuer(algorithms=["RSA_2048"])
    assert "EC_prime256v1" in refuses(SignerRefusal.CEILING, good_ask(), by=by)
    issued(good_ask(spki=spki("RSA_2048")), by=by)


def test_an_issuer_does_not_certify_its_own_key():
    own = issuer()
    refuses(SignerRefusal.CEILING, good_ask(spki=own.spki), by=own)


@pytest.mark.parametrize("oid", ["1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.27", "1.3.6.1.5.5.7.3.28", "2.5.29.37.0"])
def test_no_certificate_speaks_for_its_issuer_unless_the_ceiling_says_so(oid):
    """RFC 6960, 4.2.2.2: whoever holds such a leaf answers for the whole authority."""
    ask = good_ask(extended_key_usages=[oid], sans=[])
    refuses(SignerRefusal.CEILING, ask)
    issued(ask, by=issuer(extended_key_usages=[oid]))


def test_a_ceiling_of_usages_lets_nothing_else_through():
    by = issuer(extended_key_usages=["1.3.6.1.5.5.7.3.2"])
    refuses(SignerRefusal.CEILING, good_ask(), by=by)
    refuses(SignerRefusal.CEILING, good_ask(extended_key_usages=[]), by=by)


RANGES = [
    NameRange("dns_name", "example"),
    NameRange("ip_address", "192.0.2.0/24"),
    NameRange("email", "mail.example"),
    NameRange("uri", "anything"),
]


@pytest.mark.parametrize(
    ("kind", "value", "within"),
    [
        ("dns_name", "a.example", True),
        ("dns_name", "EXAMPLE", True),
        ("dns_name", "*.a.example", True),
        ("dns_name", "badexample", False),
        ("dns_name", "a.example.org", False),
        ("ip_address", "192.0.2.9", True),
        ("ip_address", "192.0.3.9", False),
        ("ip_address", "2001:db8::1", False),
        ("ip_address", "not an address", False),
        ("email", "x@mail.example", True),
        ("email", "x@mail.example.org", False),
        ("uri", "https://a.example/", False),
        ("upn", "x@mail.example", False),
    ],
)
def test_names_stay_within_the_ceiling_s_ranges(kind, value, within):
    ask = good_ask(sans=[GeneralName(kind, value)])
    by = issuer(names=RANGES)
    if within:
        issued(ask, by=by)
    else:
        refuses(SignerRefusal.CEILING, ask, by=by)


@pytest.mark.parametrize(
    ("common_name", "within"),
    [("server.example", True), ("bank.com", False), ("192.0.2.1", True), ("::1", False), ("A Person", True)],
)
def test_a_common_name_that_looks_like_a_host_stays_within_the_ranges_too(common_name, within):
    ask = good_ask(subject=[("2.5.4.10", "a.com"), ("2.5.4.3", common_name)])
    by = issuer(names=RANGES)
    if within:
        issued(ask, by=by)
    else:
        refuses(SignerRefusal.CEILING, ask, by=by)


@pytest.mark.parametrize(("address", "within"), [("x@mail.example", True), ("boss@bank.com", False)])
def test_an_e_mail_address_in_the_subject_stays_within_the_ranges_too(address, within):
    """RFC 5280, 4.2.1.10: old verifiers read it there."""
    ask = good_ask(subject=[("2.5.4.3", "A Person"), ("1.2.840.113549.1.9.1", address)])
    if within:
        issued(ask, by=issuer(names=RANGES))
    else:
        refuses(SignerRefusal.CEILING, ask, by=issuer(names=RANGES))


def spellings(spki: bytes) -> dict[str, bytes]:
    """The same P-256 key as other SubjectPublicKeyInfos that a loader takes for it (RFC 5480, 2; SEC 1, 2.3.3; C.2)."""
    x, y = spki[27:59], spki[59:]
    field = bytes.fromhex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff")
    a = bytes.fromhex("ffffffff00000001000000000000000000000000fffffffffffffffffffffffc")
    b = bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
    order = bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
    generator = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    kind = der.object_identifier("1.2.840.10045.2.1")
    named = der.sequence(kind, der.object_identifier("1.2.840.10045.3.1.7"))
    written_out = der.sequence(
        kind,
        der.sequence(
            der.integer(1),
            der.sequence(der.object_identifier("1.2.840.10045.1.1"), der.integer(int.from_bytes(field, "big"))),
            der.sequence(der.tagged(der.OCTET_STRING, a), der.tagged(der.OCTET_STRING, b)),
            der.tagged(der.OCTET_STRING, generator),
            der.integer(int.from_bytes(order, "big")),
            der.integer(1),
        ),
    )
    odd = y[-1] & 1
    return {
        "as ever": spki,
        "compressed": der.sequence(named, der.bit_string(bytes((2 | odd,)) + x)),
        "hybrid": der.sequence(named, der.bit_string(bytes((6 | odd,)) + x + y)),
        "with its curve written out": der.sequence(written_out, der.bit_string(b"\x04" + x + y)),
    }


@pytest.mark.parametrize("spelling", ["as ever", "compressed", "hybrid", "with its curve written out"])
def test_an_issuer_s_own_key_is_no_subject_s_however_it_is_spelled(spelling):
    """A leaf with it would let its owner pass for the issuer wherever keys alone are compared."""
    ours = spellings(issuer().spki)[spelling]
    assert load_der_public_key(ours) == load_der_public_key(issuer().spki)
    assert "own key" in refuses(SignerRefusal.CEILING, good_ask(spki=ours))
    builds = issuer(leaves=True)
    with pytest.raises(Refused, match="own key"):
        prepare(builds, good_ask(spki=ours))


@pytest.mark.parametrize("spelling", ["compressed", "hybrid", "with its curve written out"])
def test_a_ceremony_and_a_worker_write_a_key_and_its_identifier_alike_however_it_is_spelled(spelling):
    """RFC 5480, 2.1.1: the curve by its name. RFC 5280, 4.2.1.2: one key, one identifier."""
    ask = good_ask(spki=spellings(spki())[spelling])
    built = prepare(issuer(), ask).sign(issuer().private_key, issuer().digest).tbs_certificate_bytes
    assert prepared(issuer(), ask).tbs == built
    assert built == prepared(issuer(), msgspec.structs.replace(ask, spki=spki())).tbs
