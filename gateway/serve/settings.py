"""The settings of one gateway: flags, then `MUSTER_*` variables, then `muster.toml`, then defaults.

`known_settings.KEYS` is all there is, and nothing is guessed: an unknown key is an error. No socket is opened, no file
but `muster.toml` is read.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.fronts.rates import Rate, rate
from gateway.fronts.readers import Networks, networks, readers
from gateway.serve.known_settings import BY_NAME, KEYS, PREFIX, Key, Kind, Value
from gateway.serve.proxies.forms import FORMS
from gateway.serve.refusal import CannotStart

# A file may hold settings and a declaration together (D28): `muster serve` passes the declaration's tables by.
DECLARATION_TABLES: Final = frozenset({"authorities", "policies", "profiles", "applications"})
FILE_NAME: Final = "muster.toml"
# Above this likeness an unknown variable is taken for a slip of the pen; below it belongs to somebody else.
LIKENESS: Final = 0.8
# Blanks, and what RFC 3986, appendix A, has no place for.
_NOT_IN_A_URL: Final = frozenset(" \t\r\n\"<>\\^`{|}'")


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
