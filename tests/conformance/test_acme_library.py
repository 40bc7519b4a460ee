"""The `acme` library, certbot's own, walks the whole flow against a real gateway, with each kind of account key."""

import contextlib
import datetime as dt
import http.server
import threading
from pathlib import Path

import josepy
import pytest
from acme import challenges, client, crypto_util, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.doubles.gateway import running_gateway
from tests.doubles.ports import kept_port
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    port = kept_port()
    with running_gateway(
        tmp_path_factory.mktemp("acme") / "data", "--acme-http01-port", str(port), "--workers", "2"
    ) as running:
        running.http01_port = port
        yield running


@contextlib.contextmanager
def answers(port, table):
    """A web server that gives `table[path]`."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = table.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


KEYS = {
    "ES256": lambda: josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1())),
    "RS256": lambda: josepy.JWKRSA(key=rsa.generate_private_key(65537, 2048)),
    "EdDSA": lambda: JWKOKP(key=ed25519.Ed25519PrivateKey.generate()),
}
ALGORITHMS = {"ES256": josepy.ES256, "RS256": josepy.RS256}


class JWAEdDSA(josepy.jwa.JWASignature):
    """RFC 8037, 3.1, which josepy does not have."""

    kty = None

    def sign(self, key, msg):
        return key.sign(msg)

    def verify(self, key, msg, sig):
        raise NotImplementedError


EDDSA = JWAEdDSA("EdDSA")
josepy.jwa.JWASignature.register(EDDSA)


@josepy.JWK.register
class JWKOKP(josepy.JWK):
    """An Ed25519 key as RFC 8037, 2 writes it, as far as a client needs it."""

    __slots__ = ("key",)
    typ = "OKP"
    cryptography_key_types = ()
    required = ("crv", "kty", "x")

    def public_key(self):
        return JWKOKP(key=self.key.public_key()) if hasattr(self.key, "public_key") else self

    def fields_to_partial_json(self):
        raw = self.public_key().key.public_bytes_raw()
        return {"crv": "Ed25519", "x": josepy.encode_b64jose(raw)}

    @classmethod
    def fields_from_json(cls, jobj):
        return cls(key=ed25519.Ed25519PublicKey.from_public_bytes(josepy.decode_b64jose(jobj["x"])))

    def thumbprint(self, hash_function=None):
        import hashlib
        import json

        members = {"crv": "Ed25519", "kty": "OKP", "x": self.fields_to_partial_json()["x"]}
        return hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()


JWAEdDSA.kty = JWKOKP


def connect(gateway, algorithm, monkeypatch):
    """A client with a new account."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", gateway.quickstart["root"])
    key = KEYS[algorithm]()
    network = client.ClientNetwork(key, alg=ALGORITHMS.get(algorithm, EDDSA), user_agent="tests", timeout=20)
    directory = messages.Directory.from_json(network.get(gateway.quickstart["acmeDirectory"]).json())
    acme = client.ClientV2(directory, net=network)
    registration = messages.NewRegistration.from_data(email="admin@example.com", terms_of_service_agreed=True)
    return acme, key, acme.new_account(registration)


def new_csr(*names):
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, crypto_util.make_csr(pem, list(names))


def proofs(order, key):
    table = {}
    chosen = []
    for authorization in order.authorizations:
        (body,) = [each for each in authorization.body.challenges if isinstance(each.chall, challenges.HTTP01)]
        response, validation = body.response_and_validation(key)
        table[body.chall.path] = validation
        chosen.append((body, response))
    return table, chosen


def deadline():
    return dt.datetime.now() + dt.timedelta(seconds=30)  # noqa: DTZ005, the library compares with a naive now


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_the_library_gets_a_certificate(gateway, algorithm, monkeypatch):
    acme, key, account = connect(gateway, algorithm, monkeypatch)
    assert account.body.status == "valid"
    assert acme.query_registration(account).uri == account.uri
    names = ["a.localhost", f"{algorithm.lower()}.localhost"]
    private, csr = new_csr(*names)
    order = acme.new_order(csr)
    table, chosen = proofs(order, key)
    with answers(gateway.http01_port, table):
        for body, response in chosen:
            acme.answer_challenge(body, response)
        final = acme.poll_and_finalize(order, deadline())
    leaf_pem, *chain = split(final.fullchain_pem)
    root = Path(gateway.quickstart["root"]).read_text()
    for name in names:
        leaf = verify_leaf(leaf_pem, chain, root, server_name=name)
    assert leaf.public_key() == private.public_key()
    sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(sans.get_values_for_type(x509.DNSName)) == sorted(names)
    assert root not in final.fullchain_pem  # A91: roots stay at home


def split(pem):
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in pem.replace("\r", "").split(end) if part.strip()]


def test_the_library_is_told_of_a_wrong_proof(gateway, monkeypatch):
    acme, key, _ = connect(gateway, "ES256", monkeypatch)
    order = acme.new_order(new_csr("wrong.localhost")[1])
    table, chosen = proofs(order, key)
    with answers(gateway.http01_port, dict.fromkeys(table, "something else")):
        for body, response in chosen:
            acme.answer_challenge(body, response)
        with pytest.raises(errors.ValidationError) as failed:
            acme.poll_authorizations(order, deadline())
    (authorization,) = failed.value.failed_authzrs
    assert authorization.body.challenges[0].error.typ == "urn:ietf:params:acme:error:unauthorized"


def test_the_library_finds_and_ends_its_account(gateway, monkeypatch):
    acme, _key, account = connect(gateway, "ES256", monkeypatch)
    acme.net.account = None  # newAccount is signed with the key itself (A20)
    with pytest.raises(errors.ConflictError) as known:
        acme.new_account(messages.NewRegistration.from_data(terms_of_service_agreed=True))
    assert known.value.location == account.uri
    acme.net.account = account
    changed = account.body.update(contact=("mailto:other@example.com",))
    assert acme.update_registration(account, changed).body.contact == ("mailto:other@example.com",)
    assert acme.deactivate_registration(account).body.status == "deactivated"
    with pytest.raises(messages.Error) as refused:
        acme.new_order(new_csr("localhost")[1])
    assert refused.value.code == "unauthorized"


def test_the_library_survives_a_nonce_that_is_spent(gateway, monkeypatch):
    # A9: one retry, with the nonce of the refusal.
    acme, _key, _ = connect(gateway, "ES256", monkeypatch)
    used = []
    take = acme.net._get_nonce

    def stale(url, new_nonce_url):
        if not used:
            used.append(take(url, new_nonce_url))
            acme.net.head(new_nonce_url)  # as if it had been used
            return b"A" * 39
        return take(url, new_nonce_url)

    monkeypatch.setattr(acme.net, "_get_nonce", stale)
    assert acme.new_order(new_csr("localhost")[1]).body.status.name == "pending"


def test_the_library_gets_a_certificate_for_an_address(gateway, monkeypatch):
    # A69; RFC 8738.
    import ipaddress

    acme, key, _ = connect(gateway, "ES256", monkeypatch)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    csr = crypto_util.make_csr(pem, ipaddrs=[ipaddress.ip_address("127.0.0.1")])
    order = acme.new_order(csr)
    table, chosen = proofs(order, key)
    with answers(gateway.http01_port, table):
        for body, response in chosen:
            acme.answer_challenge(body, response)
        final = acme.poll_and_finalize(order, deadline())
    leaf_pem, *chain = split(final.fullchain_pem)
    verify_leaf(leaf_pem, chain, Path(gateway.quickstart["root"]).read_text(), server_name="127.0.0.1")
