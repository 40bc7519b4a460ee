"""Settings: flags, variables, file, defaults; unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.serve.known_settings import KEYS
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings, load

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def read(folder: Path, toml: str = "", flags: dict[str, str] | None = None, **variables: str) -> Settings:
    data = folder / "muster-data"
    data.mkdir(exist_ok=True)
    (data / "muster.toml").write_text(toml)
    return load(flags or {}, variables, folder=folder)


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    settings = load({}, {}, folder=tmp_path)
    assert settings.data == tmp_path / "muster-data"
    assert (settings.https, settings.http) == ("127.0.0.1:8443", "127.0.0.1:8080")
    assert settings.acme_http01_port is None


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = '[store]\nqueue = 7\n[log]\nlevel = "debug"'
    assert read(tmp_path, 'https = "127.0.0.1:1"').https == "127.0.0.1:1"
    assert read(tmp_path, 'https = "127.0.0.1:1"', MUSTER_HTTPS="127.0.0.1:2").https == "127.0.0.1:2"
    flags = {"https": "127.0.0.1:3"}
    assert read(tmp_path, 'https = "127.0.0.1:1"', flags, MUSTER_HTTPS="127.0.0.1:2").https == "127.0.0.1:3"
    assert read(tmp_path, file, MUSTER_STORE_QUEUE="9").store_queue == 9
    assert read(tmp_path, file).log_level == "debug"


def test_an_unknown_key_is_an_error_that_names_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"muster\.toml: store\.ulr: unknown key; did you mean store\.url\?"):
        read(tmp_path, '[store]\nulr = "x"')
    with pytest.raises(CannotStart, match=r"muster\.toml: profles: unknown key; did you mean profiles\?"):
        read(tmp_path, '[[profles]]\nslug = "x"')
    with pytest.raises(CannotStart, match=r"MUSTER_STORE_ULR: unknown variable; did you mean MUSTER_STORE_URL\?"):
        read(tmp_path, MUSTER_STORE_ULR="x")
    with pytest.raises(CannotStart, match=r"zzzzzz: unknown key$"):
        read(tmp_path, "zzzzzz = 1")


def test_a_variable_that_resembles_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    read(tmp_path, MUSTER_DEVICE_PASSPHRASE="for a declaration", HOME="/")


def test_a_file_may_hold_a_declaration_beside_the_settings(tmp_path: Path) -> None:
    assert read(tmp_path, 'http = "127.0.0.1:9"\n[[applications]]\nname = "x"').http == "127.0.0.1:9"


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ('https = "8443"', "is not HOST:PORT"),
        ('https = "127.0.0.1:99999"', "is not HOST:PORT"),
        ('external-url = "ftp://x"', "is not an absolute http or https URL"),
        ('external-url = "pki.example.com"', "is not an absolute http or https URL"),
        ('external-url = "https://pki.example.com:99999"', "is not an absolute http or https URL"),
        ('external-url = "https://pki.exam ple.com"', "is not an absolute http or https URL"),
        ('external-url = "https://pki.example.com/?x"', "is not an absolute http or https URL"),
        ('external-url = "https://me@pki.example.com"', "is not an absolute http or https URL"),
        ('external-http-url = "http://[::1"', "is not an absolute http or https URL"),
        ('[store]\nurl = "mysql://me:secret@db/x"', "store.url: 'mysql' is not sqlite:///path or postgresql://..."),
        ('[store]\nurl = "sqlite:///"', "is not sqlite:///path or postgresql://..."),
        ("[signer]\nworkers = 0", "is not a whole number, 1 or more"),
        ("[signer]\nworkers = true", "must be a whole number, 1 or more"),
        ("acme-http01-port = 65536", "is not a port number"),
        ('[limits]\naddress-rate = "300"', "limits.address-rate: '300' is not a rate such as 50/s"),
        ("[limits]\nipv6-prefix = 129", "limits.ipv6-prefix: an IPv6 address has 128 bits"),
        ('[limits]\nexempt = "10.0.0.1/8"', "is not addresses and networks with commas between them"),
        ('[log]\nlevel = "loud"', "is not debug, info, warning or error"),
        ('[tls]\nkey = "k.pem"', "tls.certificate and tls.key belong together"),
        ("store = 1", "store: unknown key"),
        ("a = ", "not TOML"),
        ('data = "elsewhere"', "cannot name another folder"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(tmp_path: Path, toml: str, sentence: str) -> None:
    with pytest.raises(CannotStart, match=re.escape(sentence)) as refusal:
        read(tmp_path, toml)
    assert "\n" not in str(refusal.value)


def test_a_path_of_sqlite_is_relative_to_the_file_that_says_it(tmp_path: Path) -> None:
    said = read(tmp_path, '[store]\nurl = "sqlite:///elsewhere/certificates.sqlite"').store_url
    assert said == f"sqlite:///{tmp_path}/muster-data/elsewhere/certificates.sqlite"
    assert read(tmp_path, MUSTER_STORE_URL="sqlite:////var/x.sqlite").store_url == "sqlite:////var/x.sqlite"
    postgresql = "postgresql://muster@db.example.com/muster?sslmode=verify-full"
    assert read(tmp_path, MUSTER_STORE_URL=postgresql).store_url == postgresql


def test_another_file_may_be_named_and_must_then_be_there(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('data = "here"\nhttps = "[::1]:0"')
    settings = load({}, {"MUSTER_CONFIG": "other.toml"}, folder=tmp_path)
    assert settings.data == tmp_path / "here"
    assert settings.https == "[::1]:0"
    with pytest.raises(CannotStart, match="there is no such file"):
        load({}, {}, folder=tmp_path, config=tmp_path / "missing.toml")


def test_the_document_has_every_key_with_its_variable_default_and_meaning() -> None:
    rows = re.findall(r"^\| `([a-z0-9.-]+)` \| `(MUSTER_\w+)` \| (.*?) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [
        (key.name, key.variable, f"`{key.default}`" if key.default != "" else "(empty)", key.meaning) for key in KEYS
    ]
    assert {key.name for key in KEYS if key.flag} == set(
        re.findall(r"`--([a-z0-9-]+)`", DOCUMENT.read_text().split("Flags of `muster serve`:")[1].split("\n")[0])
    )


def test_rates_may_be_set_and_left_out(tmp_path: Path) -> None:
    said = read(tmp_path, '[limits]\naddress-rate = 0\napplication-rate = "5/m"\nexempt = "10.0.0.1, fd00::/8"')
    assert said.address_rate is None
    assert said.application_rate is not None
    assert said.application_rate.pace.interval == 12
    assert [str(each) for each in said.exempt] == ["10.0.0.1/32", "fd00::/8"]
    assert read(tmp_path).exempt == ()
    assert read(tmp_path, MUSTER_LIMITS_ADDRESS_RATE="").address_rate is None
