"""EST's operations, played by hand."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from protocols.est import needs
from protocols.est.messages import Caller
from protocols.est.operations import operate
from protocols.exchange import Need, Reason, Refused, Reply
from tests.doubles.client_keys import ec_key
from tests.doubles.mutation import mutations
from tests.doubles.play import play
from tests.doubles.scep_client import certification_request, self_signed

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
BASIC = "Basic " + base64.b64encode(b"device:passphrase").decode()
WRONG = "Basic " + base64.b64encode(b"device:guess").decode()
CA = self_signed(ec_key("ca"), "CA").public_bytes(Encoding.DER)
ROOT = self_signed(ec_key("root"), "Root").public_bytes(Encoding.DER)
PKCS10 = "application/pkcs10"


def certificate(common_name: str = "device-1", dns: tuple[str, ...] = ()) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateBuilder(name, name, ec_key("device").public_key(), 7, NOW, NOW)
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in dns]), False)
    return builder.sign(ec_key("ca"), hashes.SHA256()).public_bytes(Encoding.DER)


def body(common_name: str = "device-1", dns: tuple[str, ...] = ()) -> bytes:
    return base64.b64encode(certification_request(ec_key("device"), common_name, dns=dns))


class Host:
    """One pair: the passphrase is `passphrase`; `refusal` is raised for certificates, `outcome` given for enrollments."""

    def __init__(self, refusal: Refused | None = None, outcome: needs.Waiting | Refused | None = None) -> None:
        self.refusal = refusal
        self.outcome = outcome
        self.asked: list[Need[object]] = []

    def answer(self, need: Need[object]) -> object:
        self.asked.append(need)
        match need:
            case needs.CaCertificates():
                return (CA, ROOT)
            case needs.AuthenticateUser():
                return needs.Identity("passphrase", need.user) if need.passphrase == "passphrase" else None
            case needs.AuthenticateCertificate():
                if self.refusal is not None:
                    raise self.refusal
                return needs.Identity("certificate", "device-1", need.certificate, "id")
            case needs.Enroll():
                if isinstance(self.outcome, Refused):
                    raise self.outcome
                return self.outcome or needs.Enrolled(certificate(), (CA,))
            case _:
                raise AssertionError(need)

    def names(self) -> list[str]:
        return [type(need).__name__ for need in self.asked]


def ask(
    host: Host,
    operation: str,
    sent: bytes = b"",
    *,
    method: str = "POST",
    secure: bool = True,
    peer: bytes | None = None,
    authorization: str | None = None,
    media_type: str | None = PKCS10,
    wrap: int = 0,
) -> Reply:
    caller = Caller(secure, peer, authorization)
    exchange = operate(operation, method, caller, media_type=media_type, body=sent, wrap=wrap, realm="demo")
    return play(exchange, host.answer)


def certificates(reply: Reply) -> list[bytes]:
    bag = base64.b64decode(reply.body)
    return [each.public_bytes(Encoding.DER) for each in pkcs7.load_der_pkcs7_certificates(bag)]


def refused(reply: Reply, status: int) -> str:
    """E49, E50: one line of text, and only a 401 asks for credentials."""
    assert reply.status == status, reply.body
    assert reply.media_type == "text/plain; charset=utf-8"
    assert reply.body.endswith(b"\n")
    assert reply.body.count(b"\n") == 1
    assert any(name == "WWW-Authenticate" for name, _ in reply.headers) is (status == 401)
    return reply.body.decode()


# What may be asked at all


@pytest.mark.parametrize("operation", ["", "CACERTS", "cacerts/", "renewal-info", "simplerevoke", "..", "\0"])
def test_an_unknown_operation_is_not_found(operation: str):
    """E5: without a challenge, whoever asks."""
    host = Host()
    refused(ask(host, operation, secure=False), 404)
    assert host.asked == []


@pytest.mark.parametrize("operation", ["cacerts", "csrattrs", "simpleenroll", "simplereenroll"])
def test_plain_http_is_forbidden(operation: str):
    """E9: without a challenge, or the passphrase would be sent in the clear."""
    host = Host()
    refused(ask(host, operation, body(), secure=False, authorization=BASIC), 403)
    refused(ask(host, operation, secure=False, method="GET"), 403)
    assert host.asked == []


@pytest.mark.parametrize(
    ("operation", "allowed"),
    [
        ("cacerts", "GET, HEAD"),
        ("csrattrs", "GET, HEAD"),
        ("simpleenroll", "POST"),
        ("simplereenroll", "POST"),
        ("serverkeygen", "POST"),
        ("fullcmc", "POST"),
    ],
)
def test_another_method_is_not_allowed(operation: str, allowed: str):
    """E8."""
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get"} - set(allowed.split(", ")):
        reply = ask(Host(), operation, method=method, authorization=BASIC)
        refused(reply, 405)
        assert reply.headers == (("Allow", allowed),)


@pytest.mark.parametrize("operation", ["serverkeygen", "fullcmc"])
def test_what_is_not_offered_is_not_found(operation: str):
    """E79, E87."""
    host = Host()
    refused(ask(host, operation, body(), authorization=BASIC), 404)
    assert host.asked == []


# cacerts and csrattrs


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("authorization", [None, BASIC, WRONG, "nonsense"])
@pytest.mark.parametrize("wrap", [0, 64, 76])
def test_the_authorities_are_for_everybody(method: str, authorization: str | None, wrap: int):
    """E23, E24, E26."""
    host = Host()
    reply = ask(host, "cacerts", method=method, authorization=authorization, media_type=None, wrap=wrap)
    assert (reply.status, reply.media_type) == (200, "application/pkcs7-mime")
    assert reply.headers == (("Content-Transfer-Encoding", "base64"),)
    assert set(certificates(reply)) == {CA, ROOT}
    assert host.names() == ["CaCertificates"]


def test_without_a_chain_the_client_comes_back():
    """E29."""

    def answer(need: Need[object]) -> object:
        raise Refused(Reason.UNAVAILABLE, "not yet", retry_after=30)

    exchange = operate("cacerts", "GET", Caller(True, None, None), media_type=None, body=b"", wrap=0, realm="")
    reply = play(exchange, answer)
    refused(reply, 503)
    assert reply.headers == (("Retry-After", "30"),)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_attributes_are_asked_for(method: str):
    """E70, E71."""
    assert ask(Host(), "csrattrs", method=method) == Reply(204)


# simpleenroll


def test_a_passphrase_enrolls():
    """E40, E41: exactly one certificate, under exactly this type."""
    host = Host()
    reply = ask(host, "simpleenroll", body(), authorization=BASIC)
    assert reply.status == 200
    assert reply.media_type == "application/pkcs7-mime; smime-type=certs-only"
    assert reply.headers == (("Content-Transfer-Encoding", "base64"), ("Cache-Control", "no-store"))
    (leaf,) = certificates(reply)
    assert x509.load_der_x509_certificate(leaf).public_key() == ec_key("device").public_key()
    asked = host.asked[-1]
    assert isinstance(asked, needs.Enroll)
    assert asked.identity == needs.Identity("passphrase", "device")
    assert not asked.renewal
    assert host.names() == ["AuthenticateUser", "Enroll"]


def test_a_certificate_enrolls():
    host = Host()
    assert ask(host, "simpleenroll", body(), peer=certificate()).status == 200
    asked = host.asked[-1]
    assert isinstance(asked, needs.Enroll)
    assert (asked.identity.kind, asked.renewal) == ("certificate", False)
    assert host.names() == ["AuthenticateCertificate", "Enroll"]


@pytest.mark.parametrize("reason", [Reason.FORBIDDEN, Reason.REVOKED, Reason.EXPIRED, Reason.UNAUTHENTICATED])
def test_a_passphrase_helps_where_a_certificate_does_not(reason: Reason):
    """RFC 7030, 3.2.3: either is enough, and a TLS client sends whichever certificate it has."""
    host = Host(refusal=Refused(reason, "no"))
    assert ask(host, "simpleenroll", body(), peer=certificate(), authorization=BASIC).status == 200
    assert host.names() == ["AuthenticateCertificate", "AuthenticateUser", "Enroll"]
    reply = ask(Host(refusal=Refused(reason, "no")), "simpleenroll", body(), peer=certificate())
    refused(reply, 401)


@pytest.mark.parametrize("reason", [Reason.BUSY, Reason.UNAVAILABLE])
def test_a_store_out_of_reach_is_not_a_wrong_certificate(reason: Reason):
    host = Host(refusal=Refused(reason, "later"))
    refused(ask(host, "simpleenroll", body(), peer=certificate(), authorization=BASIC), 503)
    assert host.names() == ["AuthenticateCertificate"]


@pytest.mark.parametrize("authorization", [None, WRONG, "Bearer x", "Basic !", "Basic"])
def test_nobody_enrolls_without_credentials(authorization: str | None):
    """E90: the challenge is the first header, and the body was not looked at."""
    host = Host()
    reply = ask(host, "simpleenroll", b"garbage", authorization=authorization)
    refused(reply, 401)
    assert reply.headers[0] == ("WWW-Authenticate", 'Basic realm="demo"')
    assert "Enroll" not in host.names()


@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll"])
@pytest.mark.parametrize("media_type", [None, "text/plain", "application/pkcs7-mime"])
def test_another_content_type_is_unsupported(operation: str, media_type: str | None):
    """E37."""
    reply = ask(Host(), operation, body(), peer=certificate(), media_type=media_type)
    assert "application/pkcs10" in refused(reply, 415)


@pytest.mark.parametrize("sent", [b"", b"!!!!", base64.b64encode(b"0\x82"), body()[:-8]])
def test_garbage_is_a_bad_request(sent: bytes):
    """E38."""
    refused(ask(Host(), "simpleenroll", sent, authorization=BASIC), 400)


def test_a_request_that_does_not_verify_is_a_bad_request():
    """E39."""
    damaged = bytearray(certification_request(ec_key("device")))
    damaged[-1] ^= 1
    refused(ask(Host(), "simpleenroll", base64.b64encode(damaged), authorization=BASIC), 400)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.POLICY, 400),
        (Reason.BAD_KEY, 400),
        (Reason.FORBIDDEN, 403),
        (Reason.NOT_FOUND, 404),
        (Reason.RATE_LIMITED, 429),
        (Reason.BUSY, 503),
        (Reason.UNAVAILABLE, 503),
    ],
)
def test_the_hosts_refusal_is_told(reason: Reason, status: int):
    """E48, E49."""
    host = Host(outcome=Refused(reason, "because"))
    assert refused(ask(host, "simpleenroll", body(), authorization=BASIC), status) == "because\n"


def test_a_request_that_waits_is_accepted():
    """E51: an integer of seconds."""
    reply = ask(Host(outcome=needs.Waiting(90)), "simpleenroll", body(), authorization=BASIC)
    assert (reply.status, reply.headers) == (202, (("Retry-After", "90"),))


# simplereenroll


@pytest.mark.parametrize("dns", [(), ("a.example",), ("a.example", "b.example")])
def test_a_certificate_renews_itself(dns: tuple[str, ...]):
    """E63, E64: in whatever order the names come."""
    host = Host()
    reply = ask(host, "simplereenroll", body(dns=dns[::-1]), peer=certificate(dns=dns))
    assert reply.status == 200
    asked = host.asked[-1]
    assert isinstance(asked, needs.Enroll)
    assert asked.renewal
    assert host.names() == ["AuthenticateCertificate", "Enroll"]


@pytest.mark.parametrize("authorization", [None, BASIC])
def test_without_a_certificate_nothing_is_renewed(authorization: str | None):
    """E59: a passphrase is not the certificate that is to be renewed."""
    host = Host()
    refused(ask(host, "simplereenroll", body(), authorization=authorization), 403)
    assert host.asked == []


@pytest.mark.parametrize("reason", [Reason.FORBIDDEN, Reason.REVOKED, Reason.EXPIRED])
def test_a_certificate_that_is_not_accepted_renews_nothing(reason: Reason):
    """E60, E61, E62, E68: whatever passphrase comes with it."""
    host = Host(refusal=Refused(reason, "no"))
    refused(ask(host, "simplereenroll", body(), peer=certificate(), authorization=BASIC), 403)
    assert host.names() == ["AuthenticateCertificate"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (certificate("device-1"), body("device-2")),
        (certificate("device-1"), body("device-1", ("a.example",))),
        (certificate("device-1", ("a.example",)), body("device-1")),
        (certificate("device-1", ("a.example",)), body("device-1", ("a.example", "b.example"))),
        (certificate("device-1", ("a.example", "b.example")), body("device-1", ("a.example",))),
        (certificate("device-1", ("a.example",)), body("device-1", ("b.example",))),
    ],
)
def test_a_renewal_changes_no_name(old: bytes, new: bytes):
    """E63, E64: none more, none less, and absent is not present."""
    host = Host()
    refused(ask(host, "simplereenroll", new, peer=old), 403)
    assert "Enroll" not in host.names()


def test_a_peer_certificate_that_cannot_be_read_renews_nothing():
    refused(ask(Host(), "simplereenroll", body(), peer=b"rubbish"), 400)


def test_the_hosts_own_mistakes_are_not_hidden():
    def answer(need: Need[object]) -> object:
        raise RuntimeError("a bug")

    exchange = operate("cacerts", "GET", Caller(True, None, None), media_type=None, body=b"", wrap=0, realm="")
    with pytest.raises(RuntimeError):
        play(exchange, answer)


def test_damage_never_gets_an_exception_out():
    """E109."""
    host = Host()
    statuses = {
        ask(host, "simpleenroll", damaged, authorization=BASIC).status
        for damaged in mutations(b"est", 1500, [body(), base64.b64decode(body())])
    }
    statuses |= {
        ask(host, "simpleenroll", body(), authorization=damaged.decode("latin-1")).status
        for damaged in mutations(b"basic", 500, [BASIC.encode()])
    }
    assert statuses == {200, 400, 401}
