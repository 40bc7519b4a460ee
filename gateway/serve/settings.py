"""The settings of one gateway: flags, then `MUSTER_*` variables, then `muster.toml`, then defaults.

One table, `KEYS`, is all there is: the file, the variables, the flags, `docs/configuration.md` and the error messages
come from it. Nothing is guessed: an unknown key is an error. No socket is opened, no file but `muster.toml` is read.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from gateway.fronts.rates import MEANT as A_RATE
from gateway.fronts.rates import Rate, rate
from gateway.fronts.readers import MEANT, Networks, networks, readers
from gateway.serve.proxies.forms import FORMS
from gateway.serve.refusal import CannotStart

Value: TypeAlias = str | int

# A file may hold settings and a declaration together (D28): `muster serve` passes the declaration's tables by.
DECLARATION_TABLES: Final = frozenset({"authorities", "policies", "profiles", "applications"})
FILE_NAME: Final = "muster.toml"
PREFIX: Final = "MUSTER_"
# Above this likeness an unknown variable is taken for a slip of the pen; below it belongs to somebody else.
LIKENESS: Final = 0.8
# Blanks, and what RFC 3986, appendix A, has no place for.
_NOT_IN_A_URL: Final = frozenset(" \t\r\n\"<>\\^`{|}'")


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


@dataclass(frozen=True, slots=True)
class Settings:
    """What one gateway was told. Paths are absolute; an empty text or None means the default that `KEYS` describes."""

    data: Path
    https: str
    http: str
    external_url: str
    external_http_url: str
    acme_http01_port: int | None
    workers: int
    store_url: str
    store_queue: int
    signer_workers: int
    signer_queue: int
    stuck_seconds: int
    unlock_secret_file: Path | None
    unlock_secret: str
    pkcs11_module: Path | None
    token: str
    pin_file: Path | None
    pin: str
    pins_file: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    tls_folder: Path | None
    proxies_trusted: Networks
    proxies_protocol: frozenset[str]
    proxies_terminate_tls: frozenset[str]
    proxies_client_certificate: str
    proxies_forwarded: str
    connections: int
    handshake_seconds: int
    idle_seconds: int
    head_seconds: int
    read_seconds: int
    drain_seconds: int
    wait_seconds: int
    address_rate: Rate | None
    address_connections: Rate | None
    application_rate: Rate | None
    ipv6_prefix: int
    exempt: Networks
    metrics: str
    log_level: str
    log_format: str


def load(
    flags: Mapping[str, str], environment: Mapping[str, str], *, folder: Path, config: Path | None = None
) -> Settings:
    """Read the settings; `folder` is the working folder, `config` another place for `muster.toml`.

    Raises `CannotStart` for an unknown key, naming the nearest known one, and for a value that does not fit.
    """
    given = {name: _checked(BY_NAME[name], value, f"--{name}", folder) for name, value in flags.items()}
    variables = _variables(environment, folder)
    data = given.get("data", variables.get("data", _checked(BY_NAME["data"], BY_NAME["data"].default, "data", folder)))
    path = config if config is not None else _named_config(environment, folder)
    written = _file(path, required=True) if path is not None else _file(Path(str(data)) / FILE_NAME, required=False)
    if path is None and "data" in written:
        raise CannotStart(
            f"{Path(str(data)) / FILE_NAME}: data: the file in the data folder cannot name another folder; use --data"
        )
    defaults = {key.name: _checked(key, key.default, key.name, folder) for key in KEYS}
    return _settings({**defaults, **written, **variables, **given})


def nearest(name: str, known: Sequence[str]) -> str:
    """A half sentence that names the known name nearest to `name`, or nothing where none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _variables(environment: Mapping[str, str], folder: Path) -> dict[str, Value]:
    by_variable = {key.variable: key for key in KEYS}
    found: dict[str, Value] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == PREFIX + "CONFIG":
            continue
        key = by_variable.get(variable)
        if key is not None:
            found[key.name] = _checked(key, text, variable, folder)
        elif close := difflib.get_close_matches(variable, by_variable, n=1, cutoff=LIKENESS):
            raise CannotStart(f"{variable}: unknown variable; did you mean {close[0]}?")
    return found


def _named_config(environment: Mapping[str, str], folder: Path) -> Path | None:
    named = environment.get(PREFIX + "CONFIG")
    return folder / named if named else None


def _file(path: Path, *, required: bool) -> dict[str, Value]:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise CannotStart(f"{path}: there is no such file; --config names the settings file") from None
        return {}
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror or error}") from None
    try:
        tree = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotStart(f"{path}: not TOML: {error}") from None
    found: dict[str, Value] = {}
    for name, value in _leaves(tree, ""):
        if name.split(".", 1)[0] in DECLARATION_TABLES:
            continue
        key = BY_NAME.get(name)
        if key is None:
            raise CannotStart(f"{path}: {name}: unknown key{nearest(name, [*BY_NAME, *sorted(DECLARATION_TABLES)])}")
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise CannotStart(f"{path}: {name}: must be {key.kind.value}")
        found[name] = _checked(key, value, f"{path}: {name}", path.absolute().parent)
    return found


def _leaves(tree: Mapping[str, object], prefix: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in tree.items():
        if isinstance(value, dict) and name not in DECLARATION_TABLES:
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _checked(key: Key, value: Value, where: str, folder: Path) -> Value:
    wrong = CannotStart(f"{where}: {value!r} is not {key.kind.value}")
    match key.kind:
        case Kind.PORT if value == "":
            return value
        case Kind.COUNT | Kind.PORT | Kind.WORKERS:
            try:
                number = int(value)
            except ValueError:
                raise wrong from None
            if number < (key.kind is not Kind.WORKERS) or (key.kind is Kind.PORT and number > 65535):
                raise wrong
            return number
        case Kind.PATH:
            return str((folder / str(value)).absolute()) if value else ""
        case Kind.ADDRESS:
            split_address(str(value), where)
        case Kind.URL:
            if value and not _is_origin(str(value)):
                raise wrong
            return str(value).rstrip("/")
        case Kind.STORE:
            # Like every path of a file, one of SQLite's is relative to it; four slashes begin one that is absolute.
            path = str(value).removeprefix("sqlite:///")
            if path and path != value:
                return f"sqlite:///{(folder / path).absolute()}"
            if value and not str(value).startswith(("postgresql://", "postgres://")):
                # What follows an unknown scheme may hold a password, and is not repeated.
                raise CannotStart(f"{where}: {str(value).partition(':')[0]!r} is not {key.kind.value}")
        case Kind.LEVEL:
            if value not in {"debug", "info", "warning", "error"}:
                raise wrong
        case Kind.LAYOUT:
            if value not in {"text", "json"}:
                raise wrong
        case Kind.READERS:
            try:
                readers(str(value))
            except ValueError:
                raise wrong from None
        case Kind.RATE:
            try:
                rate(str(value))
            except ValueError:
                raise wrong from None
        case Kind.NETWORKS if value:
            try:
                networks(str(value))
            except ValueError:
                raise wrong from None
        case Kind.LISTENERS if not _listed(str(value)) <= {"http", "https"}:
            raise wrong
        case Kind.FORM if value and value not in FORMS:
            raise wrong
        case Kind.HOPS if value not in {"", "x-forwarded-for", "forwarded"}:
            raise wrong
        case Kind.TEXT | Kind.NETWORKS | Kind.LISTENERS | Kind.FORM | Kind.HOPS:
            pass
    return str(value)


def _listed(value: str) -> frozenset[str]:
    return frozenset(each.strip() for each in value.split(",")) if value else frozenset()


def _is_origin(url: str) -> bool:
    """An absolute http or https URL, a path at its end perhaps, that clients will take as it stands."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0  # reading it raises ValueError above 65535
            and not (parts.query or parts.fragment or "@" in parts.netloc)
            and url.isascii()
            and not set(url) & _NOT_IN_A_URL
        )
    except ValueError:
        return False


def split_address(address: str, where: str) -> tuple[str, int]:
    """Split `HOST:PORT` (`[::1]:8443` for IPv6); `where` is what the error names. Raises `CannotStart`."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CannotStart(f"{where}: {address!r} is not HOST:PORT, such as 127.0.0.1:8443 or [::1]:8443")
    return host, int(port)


def _settings(values: Mapping[str, Value]) -> Settings:
    def text(name: str) -> str:
        return str(values[name])

    def number(name: str) -> int:
        return int(values[name])

    def path(name: str) -> Path | None:
        return Path(text(name)) if values[name] else None

    if bool(values["tls.certificate"]) != bool(values["tls.key"]):
        raise CannotStart("tls.certificate and tls.key belong together: give both, or neither")
    if bool(values["signer.pkcs11-module"]) != bool(values["signer.token"]):
        raise CannotStart("signer.pkcs11-module and signer.token belong together: give both, or neither")
    if number("limits.ipv6-prefix") > 128:
        raise CannotStart("limits.ipv6-prefix: an IPv6 address has 128 bits")
    if values["signer.pin"] and values["signer.pin-file"]:
        raise CannotStart("signer.pin and signer.pin-file say the same: give one of them")
    return Settings(
        data=Path(text("data")),
        https=text("https"),
        http=text("http"),
        external_url=text("external-url"),
        external_http_url=text("external-http-url"),
        acme_http01_port=number("acme-http01-port") if values["acme-http01-port"] else None,
        workers=number("workers"),
        store_url=text("store.url"),
        store_queue=number("store.queue"),
        signer_workers=number("signer.workers"),
        signer_queue=number("signer.queue"),
        stuck_seconds=number("signer.stuck-seconds"),
        unlock_secret_file=path("signer.unlock-secret-file"),
        unlock_secret=text("signer.unlock-secret"),
        pkcs11_module=path("signer.pkcs11-module"),
        token=text("signer.token"),
        pin_file=path("signer.pin-file"),
        pin=text("signer.pin"),
        pins_file=path("signer.pins-file"),
        tls_certificate=path("tls.certificate"),
        tls_key=path("tls.key"),
        tls_folder=path("tls.folder"),
        proxies_trusted=networks(text("proxies.trusted")) if values["proxies.trusted"] else (),
        proxies_protocol=_listed(text("proxies.protocol")),
        proxies_terminate_tls=_listed(text("proxies.terminate-tls")),
        proxies_client_certificate=text("proxies.client-certificate"),
        proxies_forwarded=text("proxies.forwarded"),
        connections=number("limits.connections"),
        handshake_seconds=number("limits.handshake-seconds"),
        idle_seconds=number("limits.idle-seconds"),
        head_seconds=number("limits.head-seconds"),
        read_seconds=number("limits.read-seconds"),
        drain_seconds=number("limits.drain-seconds"),
        wait_seconds=number("limits.wait-seconds"),
        address_rate=rate(text("limits.address-rate")),
        address_connections=rate(text("limits.address-connections")),
        application_rate=rate(text("limits.application-rate")),
        ipv6_prefix=number("limits.ipv6-prefix"),
        exempt=networks(text("limits.exempt")) if values["limits.exempt"] else (),
        metrics=text("metrics"),
        log_level=text("log.level"),
        log_format=text("log.format"),
    )
