"""Finalize: a CSR for exactly what was ordered (RFC 8555, 7.4; A81 to A90)."""

from __future__ import annotations

import hashlib
import ipaddress

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from protocols.acme import needs
from protocols.acme.states import Identifier, IdentifierType, OrderStatus
from protocols.exchange import Reason, Refused
from protocols.pkix.names import AlternativeName
from tests.doubles.account_key import account_key, b64
from tests.doubles.acme_host import SITE, AcmeHost, body, headers, problem
from tests.doubles.pkcs10 import request, tlv


def names(*values: str) -> tuple[Identifier, ...]:
    found = []
    for value in values:
        try:
            found.append(Identifier(IdentifierType.IP, str(ipaddress.ip_address(value))))
        except ValueError:
            found.append(Identifier(IdentifierType.DNS, value))
    return tuple(found)


def finalize(der: bytes, *ordered: str, status: OrderStatus = OrderStatus.READY, **fields: object):
    host = AcmeHost()
    account = host.account()
    order = host.order(account, identifiers=names(*ordered), status=status, **fields)
    return host, host.post(f"order/{order.id}/finalize", {"csr": b64(der)}, account=account)


def issued(host: AcmeHost) -> needs.Finalize:
    need = host.asked[-1]
    assert isinstance(need, needs.Finalize)
    return need


def test_an_order_that_is_ready_is_finalized():
    # A54, A88
    der = request("a.example", "B.Example", common_name="A.Example")
    host, reply = finalize(der, "b.example", "a.example")
    order = issued(host).order
    assert (reply.status, body(reply)["status"]) == (200, "valid")
    assert headers(reply, "Location") == [f"{SITE.url}/order/{order.id}"]
    assert issued(host).csr.der == der


@pytest.mark.parametrize(
    ("asked", "spelled"),
    [
        (request("A.Example", common_name="A.EXAMPLE"), "a.example"),
        (request(common_name="A.Example"), "a.example"),
        (request(ips=("2001:db8::1",), common_name="2001:DB8:0::1"), "2001:db8::1"),
        (request("Beef.cafe", common_name="Beef.CAFE"), "beef.cafe"),  # an address's letters, and no address
    ],
)
def test_the_common_name_is_spelled_as_the_san(asked, spelled):
    # A44, A84: the SAN is in lower case whatever was asked, and the common name is a copy of it, octet by octet.
    host, reply = finalize(asked, spelled)
    assert reply.status == 200
    assert [each.value for each in issued(host).csr.subject] == [spelled]
    assert [each.value for each in issued(host).csr.sans] == [spelled]


def test_addresses_are_names_too():
    _, reply = finalize(request("a.example", ips=("192.0.2.1", "2001:db8::1")), "a.example", "2001:DB8::1", "192.0.2.1")
    assert reply.status == 200
    _, reply = finalize(request(ips=("192.0.2.1",), common_name="192.0.2.1"), "192.0.2.1")
    assert reply.status == 200


def test_a_common_name_alone_is_enough_and_the_certificate_names_the_order():
    # A84: old routers
    host, reply = finalize(request(common_name="A.Example"), "a.example")
    assert reply.status == 200
    assert issued(host).csr.sans == (AlternativeName("dns_name", "a.example"),)


@pytest.mark.parametrize(
    ("der", "ordered", "word"),
    [
        (request("a.example", "b.example"), ("a.example",), "b.example"),
        (request("a.example"), ("a.example", "b.example"), "does not ask for dns 'b.example'"),
        (request("a.example", common_name="b.example"), ("a.example",), "b.example"),
        (request("a.example", common_name="192.0.2.1"), ("a.example",), "ip '192.0.2.1'"),
        (request("k.example", common_name="\u212a.example"), ("k.example",), "\u212a.example"),  # its lower case is a k
        (request("www.a.example"), ("a.example",), "www.a.example"),
        (request("*.a.example"), ("a.example",), "*.a.example"),
        (request("a.example", "a.example"), ("a.example", "b.example"), "b.example"),  # as many, not the same
        (request("192.0.2.1"), ("192.0.2.1",), "dns '192.0.2.1'"),  # old acme.sh: an address as a DNS name
        (request("a.example", ips=("192.0.2.1",)), ("a.example",), "192.0.2.1"),
        (request(), ("a.example",), "a.example"),
        (request(*(f"{n}.a.example" for n in range(100))), ("a.example",), "0.a.example"),
    ],
)
def test_the_names_are_exactly_those_of_the_order(der, ordered, word):
    # A84
    host, reply = finalize(der, *ordered)
    assert word in problem(reply, "badCSR", 400)
    assert "Finalize" not in host.kinds()


@pytest.mark.parametrize(
    "other",
    [
        x509.RFC822Name("a@a.example"),
        x509.UniformResourceIdentifier("https://a.example"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")])),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), tlv(0x0C, b"admin@a.example")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), tlv(0x0C, b"a.example")),
    ],
)
def test_a_name_of_a_kind_that_nobody_proved_is_refused(other):
    # A84; CVE-2022-34831
    host, reply = finalize(request("a.example", others=(other,)), "a.example")
    assert "no order can prove" in problem(reply, "badCSR", 400)
    assert "Finalize" not in host.kinds()


@given(
    st.sets(st.sampled_from(["a.example", "b.example", "c.example", "192.0.2.1"]), min_size=1),
    st.sets(st.sampled_from(["a.example", "b.example", "c.example", "192.0.2.1"])),
    st.sampled_from([None, "a.example", "192.0.2.1", "d.example"]),
)
def test_only_equal_sets_of_names_reach_the_host(ordered, asked, common_name):
    der = request(
        *(name for name in asked if name.endswith("example")),
        ips=tuple(name for name in asked if name.startswith("192")),
        common_name=common_name,
    )
    host, _ = finalize(der, *ordered)
    assert ("Finalize" in host.kinds()) == (ordered == asked | ({common_name} - {None}))


def test_other_attributes_of_the_subject_are_left_to_the_policy():
    # A86
    host, reply = finalize(request("a.example", common_name="a.example", organization="Example"), "a.example")
    assert reply.status == 200
    assert [each.value for each in issued(host).csr.subject] == ["Example", "a.example"]


def test_a_ca_certificate_is_refused():
    # A86
    _, reply = finalize(
        request("a.example", extensions=(x509.BasicConstraints(ca=True, path_length=None),)), "a.example"
    )
    assert "CA" in problem(reply, "badCSR", 400)


@pytest.mark.parametrize("alg", ["ES256", "RS256", "EdDSA"])
def test_the_account_s_key_is_not_certified(alg):
    # A85; RFC 8555, 11.1
    host, key = AcmeHost(), account_key(alg)
    account = host.account(key)
    order = host.order(account, identifiers=names("a.example"))
    der = request("a.example", key=key.key)
    reply = host.post(f"order/{order.id}/finalize", {"csr": b64(der)}, account=account, key=key)
    assert "account's key" in problem(reply, "badCSR", 400)


def test_a_weak_key_and_a_broken_request_are_bad_csrs():
    # A83, A85
    weak = request("a.example", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    sound = request("a.example")
    for der in (weak, sound[:-1], sound + b"\0", sound[:-1] + bytes([sound[-1] ^ 1]), b"", b"\0" * 20_000):
        problem(finalize(der, "a.example")[1], "badCSR", 400)


def test_padding_is_tolerated_and_other_text_is_malformed():
    # A83: Synology's client pads
    host = AcmeHost()
    account = host.account()
    order = host.order(account, identifiers=names("a.example"))
    path = f"order/{order.id}/finalize"
    der = request("a.example")
    for wrong in ({}, {"csr": None}, {"csr": "-----BEGIN"}, {"csr": b64(der)[:100] + "+"}, {"csr": 1}):
        problem(host.post(path, wrong, account=account), "malformed", 400)
    problem(host.post(path, account=account), "malformed", 400)
    assert host.post(path, {"csr": b64(der) + "=="}, account=account).status == 200


@pytest.mark.parametrize("status", [OrderStatus.PENDING, OrderStatus.INVALID])
def test_an_order_that_is_not_ready_is_not_finalized(status):
    # A81
    host, reply = finalize(request("a.example"), "a.example", status=status)
    assert status in problem(reply, "orderNotReady", 403)
    assert "Finalize" not in host.kinds()


@pytest.mark.parametrize("status", [OrderStatus.PROCESSING, OrderStatus.VALID])
def test_the_same_request_again_shows_the_order_and_another_is_refused(status):
    # A81, A90
    der = request("a.example")
    digest = hashlib.sha256(der).digest()
    host, reply = finalize(der, "a.example", status=status, csr_hash=digest, certificate_id="c1")
    assert (reply.status, body(reply)["status"]) == (200, status)
    assert "Finalize" not in host.kinds()
    host, reply = finalize(request("a.example"), "a.example", status=status, csr_hash=digest, certificate_id="c1")
    problem(reply, "orderNotReady", 403)


def test_an_order_that_is_invalid_is_not_shown_as_accepted_by_its_hash():
    der = request("a.example")
    _, reply = finalize(der, "a.example", status=OrderStatus.INVALID, csr_hash=hashlib.sha256(der).digest())
    problem(reply, "orderNotReady", 403)


@pytest.mark.parametrize(
    ("reason", "type_", "status"),
    [
        (Reason.POLICY, "badCSR", 400),
        (Reason.BAD_KEY, "badCSR", 400),
        (Reason.BAD_CSR, "badCSR", 400),
        (Reason.CONFLICT, "orderNotReady", 403),
        (Reason.BUSY, "serverInternal", 503),  # A89: never final
        (Reason.UNAVAILABLE, "serverInternal", 503),
    ],
)
def test_refusals_of_the_host_have_their_rows(reason, type_, status):
    host = AcmeHost()
    account = host.account()
    order = host.order(account, identifiers=names("a.example"))
    host.refusals[needs.Finalize] = Refused(reason, "because", retry_after=5 if status == 503 else None)
    reply = host.post(f"order/{order.id}/finalize", {"csr": b64(request("a.example"))}, account=account)
    assert problem(reply, type_, status) == "because"
    assert headers(reply, "Retry-After") == (["5"] if status == 503 else [])


def test_an_order_that_is_still_processed_says_when_to_come_back():
    # A55, A129
    host = AcmeHost()
    account = host.account()
    order = host.order(account, identifiers=names("a.example"))
    answer = host.answer

    def slowly(need):
        given_ = answer(need)
        if isinstance(need, needs.Finalize):
            return msgspec.structs.replace(given_, status=OrderStatus.PROCESSING, certificate_id=None)
        return given_

    host.answer = slowly
    reply = host.post(f"order/{order.id}/finalize", {"csr": b64(request("a.example"))}, account=account)
    assert (reply.status, body(reply)["status"]) == (200, "processing")
    assert headers(reply, "Retry-After") == ["1"]
