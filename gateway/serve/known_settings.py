"""Every setting that there is: name, kind, default and meaning, in one table.

The file, the variables, the flags, `docs/configuration.md` and the error messages come from it. Nothing is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, TypeAlias

from gateway.fronts.rates import MEANT as A_RATE
from gateway.fronts.readers import MEANT
from gateway.serve.proxies.forms import FORMS

Value: TypeAlias = str | int

PREFIX: Final = "MUSTER_"


@unique
class Kind(Enum):
    """What a value must look like."""

    TEXT = "text"
    PATH = "path"
    ADDRESS = "HOST:PORT"
    URL = "an absolute http or https URL"
    STORE = "sqlite:///path or postgresql://..."
    COUNT = "a whole number, 1 or more"
    WORKERS = "a whole number; 0: as many as help on this machine"
    PORT = "a port number, 1 to 65535"
    LEVEL = "debug, info, warning or error"
    LAYOUT = "text or json"
    READERS = MEANT
    RATE = A_RATE
    NETWORKS = "addresses and networks with commas between them"
    LISTENERS = "http, https, or both with a comma between them"
    FORM = "one of " + ", ".join(FORMS)
    HOPS = "x-forwarded-for or forwarded"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `name` is its dotted place in `muster.toml`; `flag`: `muster serve` has a flag for it."""

    name: str
    kind: Kind
    default: Value
    meaning: str
    flag: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper().replace(".", "_").replace("-", "_")


KEYS: Final[tuple[Key, ...]] = (
    Key("data", Kind.PATH, "./muster-data", "the data folder; made at the first start, mode 0700", flag=True),
    Key("https", Kind.ADDRESS, "127.0.0.1:8443", "where HTTPS listens; port 0 takes any free one", flag=True),
    Key(
        "http",
        Kind.ADDRESS,
        "127.0.0.1:8080",
        "where plain HTTP listens: SCEP, CRL, CA certificates, health",
        flag=True,
    ),
    Key(
        "external-url",
        Kind.URL,
        "",
        "how clients reach HTTPS, where that is not the address itself (a proxy, a name); no request decides it",
        flag=True,
    ),
    Key(
        "external-http-url",
        Kind.URL,
        "",
        "the same for plain HTTP; it goes into certificates' CRL and AIA URLs",
        flag=True,
    ),
    Key(
        "acme-http01-port",
        Kind.PORT,
        "",
        "the port on which the demo application's http-01 challenges are fetched; empty: 80, or as it was",
        flag=True,
    ),
    Key(
        "workers",
        Kind.WORKERS,
        0,
        "gateway processes, 64 at most; 0: as many as help on this machine ([operating.md](operating.md))",
        flag=True,
    ),
    Key(
        "store.url", Kind.STORE, "", "`sqlite:///path` or `postgresql://...`; empty: `store.sqlite` in the data folder"
    ),
    Key("store.queue", Kind.COUNT, 4096, "units of work that may wait before the answer is to try again later"),
    Key(
        "signer.workers", Kind.COUNT, 2, "signer processes; with two, one that makes an RSA key or dies holds up nobody"
    ),
    Key("signer.queue", Kind.COUNT, 4096, "asks that may wait for the signer before the answer is to try again later"),
    Key(
        "signer.stuck-seconds",
        Kind.COUNT,
        10,
        "how long a token may keep a worker waiting before that is ended and another one started",
    ),
    Key(
        "signer.unlock-secret-file",
        Kind.PATH,
        "",
        "a file with the secret of the key store; empty: `unlock-secret` in the data folder",
    ),
    Key(
        "signer.unlock-secret",
        Kind.TEXT,
        "",
        "the secret itself; meant for the environment variable, never for the file",
    ),
    Key(
        "signer.pkcs11-module",
        Kind.PATH,
        "",
        "a PKCS#11 module (`.so`): authorities that are made from now on have their keys on `signer.token`",
    ),
    Key("signer.token", Kind.TEXT, "", "the label of that module's token; empty: keys are made in software"),
    Key("signer.pin-file", Kind.PATH, "", "a file with the PIN of the token, on its first line"),
    Key("signer.pin", Kind.TEXT, "", "the PIN itself; meant for the environment variable, never for the file"),
    Key(
        "signer.pins-file",
        Kind.PATH,
        "",
        "a file of lines `LABEL=PIN`, for tokens that have PINs of their own; read again whenever a token is opened",
    ),
    Key("tls.certificate", Kind.PATH, "", "PEM chain for HTTPS, leaf first; empty: the one made at the first start"),
    Key("tls.key", Kind.PATH, "", "PEM private key of `tls.certificate`"),
    Key("tls.folder", Kind.PATH, "", "a folder of `NAME.crt` with `NAME.key`: each chain is shown for its DNS names"),
    Key("proxies.trusted", Kind.NETWORKS, "", "the proxies in front, addresses or networks; nobody else is believed"),
    Key(
        "proxies.protocol",
        Kind.LISTENERS,
        "",
        "where their connections begin with the PROXY protocol, version 1 or 2: `http`, `https`, or both",
    ),
    Key(
        "proxies.terminate-tls",
        Kind.LISTENERS,
        "",
        "where they end the client's TLS, so that their requests count as HTTPS: `http`, `https`, or both",
    ),
    Key(
        "proxies.client-certificate",
        Kind.FORM,
        "",
        "the header in which they say a client's certificate: `rfc9440`, `nginx`, `ingress-nginx`, `haproxy`, `envoy`"
        " or `traefik`; empty: none",
    ),
    Key(
        "proxies.forwarded",
        Kind.HOPS,
        "",
        "the header in which they say a client's address: `x-forwarded-for` or `forwarded`; empty: none",
    ),
    Key(
        "limits.connections",
        Kind.COUNT,
        10_000,
        "connections open at one time, each listener; more wait in the backlog. The last tenth is for addresses that"
        " have less than a tenth",
    ),
    Key("limits.handshake-seconds", Kind.COUNT, 15, "how long a TLS handshake may take"),
    Key("limits.idle-seconds", Kind.COUNT, 75, "how long a connection may stay open without a request"),
    Key(
        "limits.head-seconds",
        Kind.COUNT,
        30,
        "how long the head of an HTTP/1.1 request may take to come, however steadily it does, and a new connection to"
        " begin its first",
    ),
    Key("limits.read-seconds", Kind.COUNT, 120, "how long one read may wait for a peer, within a request too"),
    Key(
        "limits.wait-seconds",
        Kind.COUNT,
        2,
        "how long an enrollment may be expected to wait for those before it; above that it is told 503 at once",
    ),
    Key(
        "limits.address-rate",
        Kind.RATE,
        "100/s burst 2000 when busy",
        "requests of one address (`50/s burst 500`; also `/m`, `/h`); `when busy`: only while there is too much to do"
        " and others ask for less; empty: any number",
    ),
    Key(
        "limits.address-connections",
        Kind.RATE,
        "50/s burst 1000 when busy",
        "new TLS connections of one address, each of which costs a signature; written like `limits.address-rate`",
    ),
    Key(
        "limits.application-rate",
        Kind.RATE,
        "",
        "enrollments that one application may begin, whoever asks; written like `limits.address-rate`",
    ),
    Key("limits.ipv6-prefix", Kind.COUNT, 64, "IPv6 addresses that have so many bits in common count as one"),
    Key("limits.exempt", Kind.NETWORKS, "", "addresses and networks that no rate of addresses holds for"),
    Key("limits.drain-seconds", Kind.COUNT, 5, "how long open requests may finish after SIGTERM"),
    Key(
        "metrics",
        Kind.READERS,
        "loopback",
        "who may read `/metrics` over plain HTTP: `off`, `loopback`, `on` (anyone), or networks (`10.0.0.7, fd00::/8`)",
    ),
    Key("log.level", Kind.LEVEL, "info", "what is written to standard error: `debug`, `info`, `warning` or `error`"),
    Key("log.format", Kind.LAYOUT, "text", "`text` (key=value) or `json`, one line each"),
)
BY_NAME: Final = {key.name: key for key in KEYS}
