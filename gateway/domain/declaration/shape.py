"""The keys of a declaration. Every key is documented here; a key that is not here is an error."""

from __future__ import annotations

from typing import Literal

import msgspec


class Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A table of a declaration."""


class SubjectDeclaration(Section, frozen=True):
    """Patterns for one type of subject attribute; see `gateway.domain.policy.SubjectRule`."""

    type: str
    """common_name, organization, organizational_unit, country, state, locality, domain_component or serial_number."""
    allowed: list[str] = []
    """Patterns; `*` matches any run of characters. Left out, with `required` left out too: any value."""
    required: list[str] = []
    """The attribute must be there and match one of these."""
    denied: list[str] = []
    """Wins over everything."""


class SanDeclaration(Section, frozen=True):
    """Patterns for one kind of subject alternative name; see `gateway.domain.policy.SanRule`."""

    type: str
    """dns_name, ip_address, email, uri or upn."""
    allowed: list[str] = []
    """Patterns: `*` within one label, `**` across labels; addresses or CIDR ranges for ip_address."""
    required: list[str] = []
    """Each of these must be matched by some name."""
    denied: list[str] = []
    """Wins over everything."""


class UsageDeclaration(Section, frozen=True):
    """Key usages by RFC 5280's names, or extended key usages by name (serverAuth) or dotted OID."""

    allowed: list[str] | None = None
    """Left out: any that is not denied. A table with no key at all allows none."""
    required: list[str] = []
    """These must be there, and are allowed."""
    denied: list[str] = []
    """Wins over everything."""


class AlgorithmDeclaration(Section, frozen=True):
    """Which algorithms."""

    signature: list[str] | None = None
    """What the authority signs with: sha256WithRSAEncryption, ecdsa-with-SHA256, Ed25519, ... Left out: any."""
    key_algorithm: list[str] | None = None
    """Keys: RSA_2048, EC_prime256v1, ED25519, ... Left out: any."""


class ValidityDeclaration(Section, frozen=True):
    """How long."""

    max: str | None = None
    """`[0-9]+[hdmy]`, with months of 30 and years of 365 days. Left out: no limit but the authority's own end."""


class BasicConstraintsDeclaration(Section, frozen=True):
    """For policies that make authorities."""

    ca: bool = False
    """Whether what is issued is a certificate authority."""
    path_length: int | None = None
    """How many authorities may stand below it. Left out: no limit."""


class PolicyDeclaration(Section, frozen=True):
    """`[[policies]]`: which requests are accepted. A section left out allows anything, an empty one nothing."""

    name: str
    """By which profiles name it."""
    preset: str | None = None
    """tls-server, tls-client, dual, device, user, email, code-signing, intermediate-ca; sections given replace its."""
    subject: list[SubjectDeclaration] | None = None
    """Rules for subject attributes."""
    sans: list[SanDeclaration] | None = None
    """Rules for subject alternative names."""
    key_usages: UsageDeclaration | None = None
    """Rules for key usages."""
    extended_key_usages: UsageDeclaration | None = None
    """Rules for extended key usages."""
    algorithms: AlgorithmDeclaration | None = None
    """Rules for algorithms."""
    validity: ValidityDeclaration | None = None
    """The longest validity."""
    basic_constraints: BasicConstraintsDeclaration | None = None
    """Only for policies that make authorities."""


class AuthorityDeclaration(Section, frozen=True):
    """`[[authorities]]`: a certificate authority. It is made where there is none of its name; its key never changes."""

    name: str
    """1 to 64 of `[a-z0-9-]`; it appears in the addresses of CRLs."""
    subject: str = ""
    """Such as `CN=Example Issuing CA,O=Example`. Left out: its name as CN."""
    key_algorithm: str = "EC_prime256v1"
    """RSA_3072, RSA_4096, EC_prime256v1, EC_secp384r1, EC_secp521r1, ED25519, ..."""
    parent: str | None = None
    """The authority that signs it. Left out: a root."""
    path_length: int | None = None
    """How many authorities may stand below it. Left out: none below one with a parent, no limit below a root."""
    days: int = 3650
    """How long its certificate lasts."""
    crl_urls: list[str] | None = None
    """CRL distribution points of what it issues; `{partition}` in it stands for a number. Left out: as they are."""
    issuer_urls: list[str] | None = None
    """Where its own certificate can be fetched. Left out: as they are."""
    ocsp_urls: list[str] | None = None
    """Its OCSP responders. Left out: as they are."""
    scep: bool = False
    """Whether it gets an RSA key for SCEP."""
    crl_lifetime: str | None = None
    """From a list's thisUpdate to its nextUpdate, `[0-9]+[hdmy]`, at most 400d. Left out: as it is, at first 7d."""
    crl_refresh: str | None = None
    """After how long a list is signed again though nothing changed. Left out: as it is, at first 1d."""
    crl_partitions: int | None = None
    """Over how many lists what it issues is spread, at most 1000. Left out: as it is, at first 0: one list for all."""
    crl_deltas: bool | None = None
    """Whether changes go onto a delta list, and onto the list itself at its turn. Left out: as it is, at first not."""
    crl_delta_lifetime: str | None = None
    """From a delta's thisUpdate to its nextUpdate, `[0-9]+[hdmy]`. Left out: as it is, at first 1h."""


class DefaultsDeclaration(Section, frozen=True):
    """What applies where a request is silent (D5)."""

    ttl: str | None = None
    """`[0-9]+[hdmy]`."""
    subject: list[str] = []
    """Attributes such as `organization=Example`, added where the request has none of that type."""
    key_algorithm: str | None = None
    """For keys that the server makes."""
    key_usages: list[str] | None = None
    """RFC 5280's names."""
    extended_key_usages: list[str] | None = None
    """Names or dotted OIDs."""


class ProfileDeclaration(Section, frozen=True):
    """`[[profiles]]`: how certificates are made; shared by many applications."""

    slug: str
    """1 to 255 of `[a-z0-9-]`; it appears in addresses."""
    authority: str
    """The name of the authority that issues."""
    policy: str
    """The name of the policy that judges."""
    description: str = ""
    """For people."""
    defaults: DefaultsDeclaration = DefaultsDeclaration()
    """What applies where a request is silent."""
    clip_validity: bool = True
    """Shorten a certificate to its authority's own end, rather than refuse it (D4)."""
    backdate_seconds: int = 300
    """How far notBefore lies in the past, for slow clocks. At most a day."""


class ApiDeclaration(Section, frozen=True):
    """REST enrollment. No keys."""


class AcmeDeclaration(Section, frozen=True):
    """ACME enrollment; see `gateway.domain.application.AcmeSettings`."""

    skip_eab_binding: bool = False
    """Accounts need no external account binding."""
    skip_dns_ownership_verification: bool = False
    """Orders are ready at once. Not together with skipEabBinding (A128)."""
    http01_port: int = msgspec.field(default=80, name="http01Port")
    """Where http-01 dials."""
    allowed_networks: list[str] = []
    """CIDR ranges where private and loopback addresses may be dialled for validation."""
    resolvers: list[str] = []
    """Addresses of DNS resolvers. Empty: the system's."""
    authorization_reuse: str | None = None
    """How long an authorization serves again, `[0-9]+[hdmy]`. Left out: it does not."""
    terms_of_service: str | None = None
    """An address; accounts must then agree."""
    website: str | None = None
    """An address, for the directory."""


class EstDeclaration(Section, frozen=True):
    """EST enrollment. One of the three passphrase keys, or none: certificates alone authenticate then."""

    passphrase: str | None = None
    """At least 8 characters; only its argon2id hash is stored."""
    passphrase_file: str | None = None
    """A file that holds it."""
    passphrase_env: str | None = None
    """An environment variable that holds it."""
    label: str | None = None
    """The segment in `/.well-known/est/{label}/`. Left out: `{application}.{profile}`."""
    wrap: Literal[0, 64, 76] = 0
    """Base64 lines in answers: 0 (one line), 64 (LF) or 76 (CRLF)."""


class ScepDeclaration(Section, frozen=True):
    """SCEP enrollment. One of the three challenge keys, or none: renewals alone are accepted then."""

    challenge: str | None = None
    """At least 8 characters; only its argon2id hash is stored."""
    challenge_file: str | None = None
    """A file that holds it."""
    challenge_env: str | None = None
    """An environment variable that holds it."""
    allow_renewal: bool = True
    """Whether a certificate of this pair may renew itself."""
    include: Literal["none", "issuer", "chain"] = "issuer"
    """What an answer carries beside the leaf."""


class EnrollmentDeclaration(Section, frozen=True):
    """`[applications.enrollment.<profile>]`: the open doors. A door that is left out is closed."""

    api: ApiDeclaration | None = None
    """REST."""
    acme: AcmeDeclaration | None = None
    """ACME."""
    est: EstDeclaration | None = None
    """EST."""
    scep: ScepDeclaration | None = None
    """SCEP."""


class ApplicationDeclaration(Section, frozen=True):
    """`[[applications]]`: where a team works."""

    name: str
    """1 to 64 of `[a-z0-9-]`; it appears in addresses."""
    description: str = ""
    """At most 256 characters."""
    profiles: list[str] = []
    """Slugs of the profiles attached. One that is left out stays attached."""
    enrollment: dict[str, EnrollmentDeclaration] = {}
    """The doors, by profile. A profile that is left out keeps its settings."""


class Declaration(Section, frozen=True):
    """A whole declaration."""

    authorities: list[AuthorityDeclaration] = []
    policies: list[PolicyDeclaration] = []
    profiles: list[ProfileDeclaration] = []
    applications: list[ApplicationDeclaration] = []
