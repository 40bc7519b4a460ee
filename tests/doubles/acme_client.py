"""A small ACME client of the tests' own, so that a test can say exactly what is sent, and twice if it likes.

It speaks to an application in this process through `ask(method, target, body, headers=...)`, as `House.ask` does.
"""

import base64
import hashlib
import json
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8))


class AccountKey:
    """A key that signs for an account: EC P-256, RSA or Ed25519."""

    def __init__(self, key=None):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        public = self.key.public_key()
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            point = public.public_numbers()
            self.alg = "ES256"
            self.jwk = {"crv": "P-256", "kty": "EC", "x": number(point.x, 32), "y": number(point.y, 32)}
        elif isinstance(self.key, rsa.RSAPrivateKey):
            numbers = public.public_numbers()
            self.alg, self.jwk = "RS256", {"e": number(numbers.e), "kty": "RSA", "n": number(numbers.n)}
        else:
            raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.alg, self.jwk = "EdDSA", {"crv": "Ed25519", "kty": "OKP", "x": b64(raw)}

    @property
    def thumbprint(self) -> str:
        return b64(hashlib.sha256(json.dumps(self.jwk, sort_keys=True, separators=(",", ":")).encode()).digest())

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


@dataclass
class Spoken:
    """An answer: `json` is None where there is none."""

    status: int
    headers: list
    body: bytes

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def nonce(self):
        return self.header("Replay-Nonce")

    @property
    def location(self):
        return self.header("Location")

    @property
    def json(self):
        return json.loads(self.body) if self.body else None

    @property
    def type(self):
        return self.json["type"].removeprefix("urn:ietf:params:acme:error:")


class AcmeClient:
    """A client of one directory, `base` being its URL without `/directory`; `origin` is what is cut off to call."""

    def __init__(self, ask, base="https://localhost:8443/acme/demo/device", key=None):
        self._ask = ask
        self.base = base
        self.origin = "/".join(base.split("/")[:3])
        self.key = key or AccountKey()
        self.kid = None
        self.nonce = None

    async def call(self, method, url, body=b"", headers=None):
        answer = await self._ask(method, url.removeprefix(self.origin), body, headers=headers or {})
        spoken = Spoken(answer.status, answer.headers, answer.body)
        self.nonce = spoken.nonce or self.nonce
        return spoken

    async def fresh_nonce(self):
        made = (await self.call("HEAD", f"{self.base}/new-nonce")).nonce
        self.nonce = None  # it is the caller's
        return made

    def envelope(self, url, payload, *, nonce, jwk=False, **protected):
        """A signed request's body; `payload` None is POST-as-GET."""
        header = {"alg": self.key.alg, "nonce": nonce, "url": url}
        header |= {"jwk": self.key.jwk} if jwk else {"kid": self.kid}
        header = {name: value for name, value in (header | protected).items() if value is not None}
        first = b64(json.dumps(header).encode())
        second = "" if payload is None else b64(json.dumps(payload).encode())
        signature = self.key.sign(f"{first}.{second}".encode())
        return json.dumps({"protected": first, "payload": second, "signature": b64(signature)}).encode()

    async def post(self, url, payload=None, *, jwk=False, nonce=None, media_type="application/jose+json", **protected):
        if not url.startswith("https:"):
            url = f"{self.base}/{url}"
        used = nonce or self.nonce or await self.fresh_nonce()
        self.nonce = None
        body = self.envelope(url, payload, nonce=used, jwk=jwk, **protected)
        return await self.call("POST", url, body, {"Content-Type": media_type})

    async def register(self, **payload):
        answer = await self.post("new-account", {"termsOfServiceAgreed": True, **payload}, jwk=True)
        self.kid = answer.location or self.kid
        return answer

    async def order(self, *names, **members):
        identifiers = [{"type": "ip" if is_address(name) else "dns", "value": name} for name in names]
        return await self.post("new-order", {"identifiers": identifiers, **members})

    async def prove(self, order):
        """Answer every http-01 challenge of an order's body; the last authorization as it then is."""
        authorization = None
        for url in order["authorizations"]:
            authorization = (await self.post(url)).json
            if authorization["status"] == "pending":
                (challenge,) = [each for each in authorization["challenges"] if each["type"] == "http-01"]
                await self.post(challenge["url"], {})
                authorization = (await self.post(url)).json
        return authorization

    def key_authorization(self, token):
        return f"{token}.{self.key.thumbprint}"


def is_address(name):
    return ":" in name or name.replace(".", "").isdigit()


def csr(*names, key=None, common_name=None):
    """A CSR for DNS names and addresses, DER in base64url."""
    import ipaddress

    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    sans = [x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name) for name in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    made = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return b64(made.public_bytes(Encoding.DER))
