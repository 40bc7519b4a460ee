"""Three judges of a certificate, none of them ours: OpenSSL, cryptography's path verifier, and pkilint's PKIX linter."""

import datetime as dt
import ipaddress
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store


def verify_leaf(
    leaf_pem: str, chain_pems: Sequence[str], root_pem: str, *, server_name: str | None, purpose: str | None = None
) -> x509.Certificate:
    """Judge a leaf by all three, and give it back.

    `chain_pems` is what a client was given beside the leaf; `server_name` a DNS name or an address that it must be good
    for as a TLS server. Without one it is verified as a client's, or as whatever `purpose` (OpenSSL's word) says.
    AssertionError says which judge found what.
    """
    leaf = x509.load_pem_x509_certificate(leaf_pem.encode())
    _openssl(leaf_pem, chain_pems, root_pem, server_name, purpose)
    _cryptography(leaf, chain_pems, root_pem, server_name)
    findings = lint(leaf_pem)
    assert findings == [], findings
    return leaf


def _openssl(
    leaf_pem: str, chain_pems: Sequence[str], root_pem: str, server_name: str | None, purpose: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        leaf, chain, root = (Path(folder) / name for name in ("leaf.pem", "chain.pem", "root.pem"))
        leaf.write_text(leaf_pem)
        chain.write_text("\n".join(chain_pems))
        root.write_text(root_pem)
        command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore"]
        command += ["-CAfile", str(root)]
        if chain_pems:
            command += ["-untrusted", str(chain)]
        if server_name is not None:
            command += ["-purpose", "sslserver"]
            command += ["-verify_ip" if _address(server_name) else "-verify_hostname", server_name]
        elif purpose is not None:
            command += ["-purpose", purpose]
        outcome = subprocess.run([*command, str(leaf)], capture_output=True, text=True, check=False, timeout=30)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def _cryptography(leaf: x509.Certificate, chain_pems: Sequence[str], root_pem: str, server_name: str | None) -> None:
    store = Store([x509.load_pem_x509_certificate(root_pem.encode())])
    chain = [x509.load_pem_x509_certificate(each.encode()) for each in chain_pems if each.strip()]
    builder = PolicyBuilder().store(store).time(dt.datetime.now(dt.UTC))
    if server_name is not None:
        address = _address(server_name)
        builder.build_server_verifier(x509.IPAddress(address) if address else x509.DNSName(server_name)).verify(
            leaf, chain
        )
        return
    if _is_for(leaf, ExtendedKeyUsageOID.CLIENT_AUTH):
        # The web's profile wants a SAN of every client; RFC 5280 does not, and devices are often known by subject alone.
        policy = ExtensionPolicy.webpki_defaults_ee().may_be_present(
            x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
        )
        ca_policy = ExtensionPolicy.webpki_defaults_ca()
        builder = builder.extension_policies(ca_policy=ca_policy, ee_policy=policy)
        builder.build_client_verifier().verify(leaf, chain)


def _is_for(leaf: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    try:
        return purpose in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def lint(leaf_pem: str) -> list[str]:
    """What pkilint's PKIX linter finds in a certificate, from warnings upwards; one line each."""
    loader, validator = _linter()
    document = loader(leaf_pem, "leaf")
    findings = []
    for result in validator.validate(document.root):
        for described in result.finding_descriptions:
            if described.finding.severity.name in {"WARNING", "ERROR", "FATAL"}:
                findings.append(f"{described.finding.severity.name} {described.finding.code} {described.message or ''}")
    return findings


@cache
def _linter():
    """pkilint takes a second to import: once, and only where it is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pyasn1's own making
        from pkilint import loader
        from pkilint.pkix import certificate, extension, name

    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    return loader.RFC5280CertificateDocumentLoader().load_pem_document, validator
