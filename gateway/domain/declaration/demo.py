"""The declaration that a first start applies, so that everything can be tried at once. Not for production."""

from __future__ import annotations

from gateway.domain.declaration.shape import (
    AcmeDeclaration,
    ApiDeclaration,
    ApplicationDeclaration,
    AuthorityDeclaration,
    Declaration,
    DefaultsDeclaration,
    EnrollmentDeclaration,
    EstDeclaration,
    PolicyDeclaration,
    ProfileDeclaration,
    ScepDeclaration,
)

LOOPBACK = ("127.0.0.0/8", "::1/128")


def demo(*, passphrase: str, challenge: str, http_url: str, http01_port: int = 80) -> Declaration:
    """Application `demo` with the profiles `tls-server` and `device`, all four doors open on both.

    Authorities `root` and `issuing`, the latter with a key for SCEP; `http_url` is the external address of the plain
    listener, without a slash at its end, where CRLs, CA certificates and OCSP responses are fetched. `passphrase` is
    for EST and `challenge` for SCEP, of both profiles. ACME needs no external account binding and may validate on
    loopback.
    """
    doors = EnrollmentDeclaration(
        api=ApiDeclaration(),
        acme=AcmeDeclaration(skip_eab_binding=True, http01_port=http01_port, allowed_networks=list(LOOPBACK)),
        est=EstDeclaration(passphrase=passphrase),
        scep=ScepDeclaration(challenge=challenge),
    )
    return Declaration(
        authorities=[
            AuthorityDeclaration(
                name="root",
                days=7300,
                path_length=1,
                crl_urls=[f"{http_url}/ca/root.crl"],
                issuer_urls=[f"{http_url}/ca/root.crt"],
                ocsp_urls=[f"{http_url}/ocsp/root"],
            ),
            AuthorityDeclaration(
                name="issuing",
                parent="root",
                path_length=0,
                crl_urls=[f"{http_url}/ca/issuing.crl"],
                issuer_urls=[f"{http_url}/ca/issuing.crt"],
                ocsp_urls=[f"{http_url}/ocsp/issuing"],
                scep=True,
            ),
        ],
        policies=[
            PolicyDeclaration(name="tls-server", preset="tls-server"),
            PolicyDeclaration(name="device", preset="device"),
        ],
        profiles=[
            ProfileDeclaration(
                slug="tls-server",
                authority="issuing",
                policy="tls-server",
                description="TLS servers, any name",
                defaults=DefaultsDeclaration(ttl="90d", extended_key_usages=["serverAuth"]),
            ),
            ProfileDeclaration(
                slug="device",
                authority="issuing",
                policy="device",
                description="Devices, any name; TLS client",
                defaults=DefaultsDeclaration(ttl="1y", extended_key_usages=["clientAuth"]),
            ),
        ],
        applications=[
            ApplicationDeclaration(
                name="demo",
                description="To try things out",
                profiles=["tls-server", "device"],
                enrollment={"tls-server": doors, "device": doors},
            )
        ],
    )
