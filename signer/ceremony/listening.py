"""The TLS certificate of a gateway's own listener. Its key stands in the clear beside it, and is no authority's."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from signer.ceremony.certify import Note, ask_for, generated, issued
from signer.ceremony.manifest import Listening, pem
from signer.contract.messages import GeneralName
from signer.issuance import lint
from signer.keystore.durable import put
from signer.keystore.key import StoredKey

TLS_DAYS: Final = 397  # what browsers accept at most of an authority that a person installed
_COMMON_NAME: Final = "2.5.4.3"
_SERVER: Final = "1.3.6.1.5.5.7.3.1"


def listen(folder: Path, hosts: list[str], authority: StoredKey, *, now: int, anew: bool, note: Note) -> Listening:
    """A listener's key and chain in `folder`: those that stand there, unless they do not fit or `anew`."""
    key_file, chain_file = folder / "key.pem", folder / "chain.pem"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate = None if anew else _standing(key_file, chain_file)
    if certificate is None:
        names = _names(hosts)
        private_key = generated("EC_prime256v1")
        ask = ask_for(
            private_key,
            "tls",
            now=now,
            days=TLS_DAYS,
            subject=[(_COMMON_NAME, next((each.value for each in names if len(each.value) <= 64), "localhost"))],
            sans=names,
            key_usages=["digitalSignature"],
            extended_key_usages=[_SERVER],
        )
        certificate = issued(authority, ask, [], note)
        # The root is left out: whoever trusts it has it.
        chain = "".join(pem(each) for each in (certificate, *authority.chain[:-1]))
        key = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        put(chain_file, chain.encode())
        put(key_file, key)
    return Listening(pem(certificate), str(key_file), str(chain_file))


def _names(hosts: list[str]) -> list[GeneralName]:
    names: list[GeneralName] = []
    for host in [*hosts, "localhost", "127.0.0.1", "::1"]:
        try:
            name = GeneralName("ip_address", str(ip_address(host)))
        except ValueError:
            name = GeneralName("dns_name", host.lower().rstrip("."))
        if lint.san_fault(name) is None and name not in names:  # machines have names that no certificate may have
            names.append(name)
    return names


def _standing(key_file: Path, chain_file: Path) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificates(chain_file.read_bytes())[0]
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError):
        return None
    fits = certificate.public_key() == key.public_key()
    return certificate if fits else None
