"""A real gateway in processes of its own: starts, restarts, refusals that change nothing, ends, deaths."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from gateway.cli.main import main
from tests.doubles.gateway import (
    GatewayDidNotStart,
    RunningGateway,
    command,
    environment,
    muster,
    running_gateway,
    start_gateway,
)
from tests.serve.test_folder import photograph

DECLARATION = """
[[policies]]
name = "internal"
preset = "tls-server"
sans = [{type = "dns_name", allowed = ["**.corp.example.com"]}]

[[profiles]]
slug = "internal"
authority = "issuing"
policy = "internal"
defaults = {ttl = "90d"}

[[applications]]
name = "payments-api"
profiles = ["internal"]

[applications.enrollment.internal.acme]
skipEabBinding = true

[applications.enrollment.internal.est]
passphraseEnv = "PAYMENTS_EST_PASSPHRASE"
"""
SECRETS = {"PAYMENTS_EST_PASSPHRASE": "a passphrase of the test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has been started once, and is not running."""
    data = tmp_path_factory.mktemp("first") / "data"
    with running_gateway(data):
        pass
    return data


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that runs, shared by tests that leave it running."""
    with running_gateway(tmp_path_factory.mktemp("running") / "data") as running:
        yield running


def get(gateway: RunningGateway, path: str, *, plain: bool = False) -> tuple[int, bytes]:
    trust = ssl.create_default_context(cafile=gateway.quickstart["root"])
    url = gateway.quickstart["http" if plain else "https"] + path
    try:
        with urllib.request.urlopen(url, context=None if plain else trust, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until_known(gateway: RunningGateway, path: str, *, plain: bool = False) -> None:
    """Wait for what was applied: it takes a second, and on a busy machine its time."""
    end = time.monotonic() + 60
    while (status := get(gateway, path, plain=plain)[0]) == 404 and time.monotonic() < end:
        time.sleep(0.05)
    assert status == 200


def children(pid: int) -> list[int]:
    """Every process below this one."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found += [child, *children(child)]
    return found


def gone(pids: list[int], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_first_start_makes_everything_for_its_owner_alone(gateway: RunningGateway) -> None:
    for path in (gateway.folder, *gateway.folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    root = (gateway.folder / "root.pem").read_text()
    assert root.startswith("-----BEGIN CERTIFICATE-----")
    assert not (gateway.folder / "unfinished").exists()


def test_quickstart_and_greeting_say_the_same(gateway: RunningGateway) -> None:
    facts = gateway.quickstart
    assert set(facts) == {
        "https", "http", "root", "adminToken", "application", "profile", "acmeDirectory", "est", "scep", "rest", "pid",
    }  # fmt: skip
    assert facts["pid"] == gateway.process.pid
    assert (facts["application"], facts["profile"]) == ("demo", "tls-server")
    assert facts["adminToken"] == (gateway.folder / "admin-token").read_text().strip()
    assert facts["adminToken"].startswith("mst_")
    for text in (facts["acmeDirectory"], facts["est"]["url"], facts["est"]["passphrase"], facts["scep"]["challenge"]):
        assert text in gateway.greeting
    assert gateway.greeting.endswith(f"\nready {facts['https']}\n")
    secrets = (facts["adminToken"], facts["est"]["passphrase"], facts["scep"]["challenge"])
    assert not any(secret in gateway.log for secret in secrets)


def test_health_answers_on_both_listeners(gateway: RunningGateway) -> None:
    for plain in (False, True):
        assert get(gateway, "/healthz", plain=plain)[0] == 200
        assert get(gateway, "/readyz", plain=plain)[0] == 200
        assert get(gateway, "/nothing", plain=plain)[0] == 404


def test_a_running_gateway_keeps_its_folder_to_itself(gateway: RunningGateway) -> None:
    with pytest.raises(GatewayDidNotStart) as refusal:
        start_gateway(gateway.folder)
    assert refusal.value.status == 2
    last = refusal.value.log.strip().splitlines()[-1]
    assert f"in use by a running gateway (process {gateway.process.pid})" in last
    assert get(gateway, "/readyz")[0] == 200


def test_a_second_start_serves_the_same_authorities_and_keeps_the_demos_secrets(folder: Path) -> None:
    before = json.loads((folder / "quickstart.json").read_text())
    root = (folder / "root.pem").read_bytes()
    with running_gateway(folder) as again:
        assert (folder / "root.pem").read_bytes() == root
        for name in ("adminToken", "application", "profile"):
            assert again.quickstart[name] == before[name]
        assert again.quickstart["est"]["passphrase"] == before["est"]["passphrase"]
        assert again.quickstart["scep"]["challenge"] == before["scep"]["challenge"]
        status, issuing = get(again, "/ca/issuing.crt", plain=True)
    with running_gateway(folder) as third:
        assert (status, issuing) == get(third, "/ca/issuing.crt", plain=True)


def test_a_later_start_at_another_address_writes_certificates_that_name_it(folder: Path) -> None:
    """A certificate that names an address of long ago has no CRL."""
    with running_gateway(folder):
        pass
    with running_gateway(folder, "--acme-http01-port", "5002") as moved:
        leaf = x509.load_pem_x509_certificate(enrolled(moved)["certificate"].encode())
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        url = points[0].full_name[0].value
        assert url == f"{moved.quickstart['http']}/ca/issuing.crl"
        assert get(moved, "/ca/issuing.crl", plain=True)[0] == 200
        ways = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        ocsp = [each.access_location.value for each in ways if each.access_method == AuthorityInformationAccessOID.OCSP]
        assert ocsp == [f"{moved.quickstart['http']}/ocsp/issuing"]
        assert "--http-01-port 5002 " in moved.greeting
    with running_gateway(folder) as again:
        assert "--http-01-port 5002 " in again.greeting


def test_sigterm_and_sigint_end_it_cleanly_and_its_signer_with_it(folder: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        running = start_gateway(folder)
        pids = children(running.process.pid)
        assert len(pids) >= 2  # the supervisor and a worker
        running.process.send_signal(number)
        assert running.stop() == 0
        assert gone(pids)
        assert "Traceback" not in running.log


def test_kill_minus_9_leaves_no_signer_and_a_folder_that_starts_again(folder: Path) -> None:
    running = start_gateway(folder)
    pids = children(running.process.pid)
    running.kill()
    assert gone(pids)
    with running_gateway(folder) as again:
        assert get(again, "/readyz")[0] == 200


def test_a_supervisor_that_is_killed_comes_back(folder: Path) -> None:
    with running_gateway(folder) as running:
        supervisor = next(pid for pid in children(running.process.pid) if b"signer\0serve" in cmdline(pid))
        os.kill(supervisor, signal.SIGKILL)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            again = [
                pid for pid in children(running.process.pid) if b"signer\0serve" in cmdline(pid) and pid != supervisor
            ]
            if again and get(running, "/readyz")[0] == 200:
                break
            time.sleep(0.1)
        assert again
        assert get(running, "/readyz")[0] == 200
        assert enroll(running) in {200, 201}


def cmdline(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def enroll(gateway: RunningGateway) -> int:
    return 200 if "BEGIN CERTIFICATE" in enrolled(gateway)["certificate"] else 500


def enrolled(gateway: RunningGateway) -> dict[str, str]:
    body = {
        "applicationName": "demo",
        "profileName": "tls-server",
        "attributes": {"commonName": "a.example.com", "altNames": [{"type": "DNS", "value": "a.example.com"}]},
    }
    request = urllib.request.Request(
        f"{gateway.quickstart['rest']}/certificates",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {gateway.quickstart['adminToken']}"},
    )
    trust = ssl.create_default_context(cafile=gateway.quickstart["root"])
    with urllib.request.urlopen(request, context=trust, timeout=60) as answer:
        made: dict[str, str] = json.loads(answer.read())["certificate"]
        return made


@pytest.mark.parametrize("flag", ["--https", "--http"])
def test_a_port_in_use_is_one_sentence_and_changes_nothing(folder: Path, tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = "--http" if flag == "--https" else "--https"
        for data in (folder, tmp_path / "new"):
            before = photograph(data) if data.exists() else None
            refused = muster("serve", "--data", str(data), flag, address, other, "127.0.0.1:0")
            assert refused.returncode == 2
            sentence = f"muster: cannot listen on {address}: the port is in use by another program"
            assert refused.stderr == f"{sentence}; choose another with {flag} HOST:PORT\n"
            assert (photograph(data) if data.exists() else None) == before


def test_a_newer_or_damaged_folder_is_one_sentence_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    def refuse(name: str, content: bytes | None, sentence: str) -> None:
        path = folder / name
        kept = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        try:
            before = photograph(folder)
            refused = muster("serve", "--data", str(folder), "--https", "127.0.0.1:0", "--http", "127.0.0.1:0")
            assert refused.returncode == 2, refused.stderr
            assert sentence in refused.stderr
            assert refused.stderr.count("\n") == 1, refused.stderr
            assert refused.stdout == ""
            assert photograph(folder) == before
        finally:
            path.write_bytes(kept)
            path.chmod(0o600)

    refuse("muster.json", b'{"format": 99}\n', "newer version")
    refuse("muster.json", b"nonsense", "muster.json cannot be read")
    refuse("muster.json", None, "damaged")
    refuse("store.sqlite", None, "store.sqlite is missing")
    refuse("store.sqlite", b"nonsense" * 4096, "not a SQLite database")
    refuse("store.sqlite", b"SQLite format 3\0" + b"nonsense" * 4096, "store cannot be opened")
    store = bytearray((folder / "store.sqlite").read_bytes())
    store[2 * 4096 : 5 * 4096] = b"nonsense" * (3 * 4096 // 8)
    refuse("store.sqlite", bytes(store), "the store is damaged")
    refuse("tls/chain.pem", b"nonsense", "HTTPS cannot use")
    refuse("unlock-secret", None, "unlock-secret is missing")
    refuse("unlock-secret", b"another secret\n", "signer does not start")
    refuse("keys/issuing.key", b"{}", "signer does not start")
    with running_gateway(folder) as healed:
        assert get(healed, "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"MUSTER_STORE_URL": "mysql://db/x"}, "is not sqlite:///path or postgresql://..."),
        ({"MUSTER_EXTERNAL_HTTP_URL": "http://[::1"}, "is not an absolute http or https URL"),
        ({"MUSTER_TLS_CERTIFICATE": "none.pem", "MUSTER_TLS_KEY": "none.key"}, "No such file"),
    ],
)
def test_a_first_start_with_settings_that_cannot_be_makes_nothing(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    listen = ("--https", "127.0.0.1:0", "--http", "127.0.0.1:0")
    refused = muster("serve", "--data", str(tmp_path / "data"), *listen, **variables)
    assert refused.returncode == 2, refused.stderr
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_gateway_that_clients_know_by_a_name_says_it_everywhere_and_has_a_certificate_for_it(tmp_path: Path) -> None:
    name = "https://pki.example.com"
    with running_gateway(tmp_path / "data", "--external-url", name, "--http", "0.0.0.0:0") as named:
        facts = named.quickstart
        assert facts["https"] == name
        assert facts["acmeDirectory"] == f"{name}/acme/demo/tls-server/directory"
        assert facts["est"]["url"] == f"{name}/est/demo/device"
        assert re.fullmatch(r"http://pki\.example\.com:\d+", facts["http"])
        port = int(named.greeting.rsplit(":", 1)[1])
        trust = ssl.create_default_context(cafile=facts["root"])
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            trust.wrap_socket(plain, server_hostname="pki.example.com") as tls,
        ):
            tls.sendall(
                b"GET /acme/demo/tls-server/directory HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
            )
            answer = b"".join(iter(lambda: tls.recv(4096), b""))
        assert f'"{name}/acme/demo/tls-server/new-order"'.encode() in answer
        assert b"evil" not in answer


def test_a_first_start_that_was_interrupted_is_taken_up_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    running = start_gateway(data)
    running.kill()
    root = (data / "root.pem").read_bytes()
    # As it stands when the machine goes down just before the end: everything made, nothing announced.
    (data / "muster.json").unlink()
    (data / "quickstart.json").unlink()
    (data / "unfinished").touch()
    with running_gateway(data) as again:
        assert (data / "root.pem").read_bytes() == root
        assert enroll(again) in {200, 201}


@pytest.mark.parametrize(
    ("number", "made"),
    [
        (signal.SIGTERM, "unfinished"),  # the first file that is made
        (signal.SIGINT, "keys/root.key"),
        (signal.SIGKILL, "keys/root.key"),
        (signal.SIGKILL, "store.sqlite"),
    ],
)
def test_a_first_start_that_is_ended_midway_leaves_no_process_and_is_finished_next_time(
    tmp_path: Path, number: signal.Signals, made: str
) -> None:
    data = tmp_path / "data"
    words = command("serve", "--data", str(data), "--https", "127.0.0.1:0", "--http", "127.0.0.1:0")
    with (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment())
        while not (data / made).exists():
            assert process.poll() is None
            time.sleep(0.001)
        below = children(process.pid)
        process.send_signal(number)
        status = process.wait(90)
    assert status == (-number if number is signal.SIGKILL else 0)
    assert not (data / "muster.json").exists()
    assert gone(below)
    with running_gateway(data) as again:
        assert get(again, "/readyz")[0] == 200


def test_apply_shows_the_difference_applies_it_once_and_a_running_gateway_agrees(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    """D28."""
    file = tmp_path / "muster.toml"
    file.write_text(f'https = "127.0.0.1:0"\n[log]\nlevel = "info"\n{DECLARATION}')  # one file may hold both
    data = ("--data", str(gateway.folder))
    directory = "/acme/payments-api/internal/directory"
    assert get(gateway, directory)[0] == 404
    dry = muster("apply", "-f", str(file), "--dry-run", *data, **SECRETS)
    assert dry.returncode == 0, dry.stderr
    assert "+ application payments-api" in dry.stdout
    assert "nothing was changed" in dry.stdout
    done = muster("apply", "-f", str(file), *data, **SECRETS)
    assert done.returncode == 0, done.stderr
    assert "+ profile internal" in done.stdout
    until_known(gateway, directory)
    again = muster("apply", "-f", str(file), *data, **SECRETS)
    assert (again.returncode, again.stdout) == (0, "nothing to change\n")


def test_apply_makes_an_authority_that_issues_at_once(gateway: RunningGateway, tmp_path: Path) -> None:
    file = tmp_path / "muster.toml"
    file.write_text(
        '[[authorities]]\nname = "devices"\nparent = "root"\nscep = true\n'
        '[[profiles]]\nslug = "sensors"\nauthority = "devices"\npolicy = "tls-server"\n'
        '[[applications]]\nname = "demo"\nprofiles = ["tls-server", "device", "sensors"]\n'
        "[applications.enrollment.sensors.api]\n"
    )
    done = muster("apply", "-f", str(file), "--data", str(gateway.folder))
    assert done.returncode == 0, done.stderr
    assert "+ authority devices" in done.stdout
    until_known(gateway, "/ca/devices.crt", plain=True)
    for name in ("devices", "issuing"):
        status, der = get(gateway, f"/ca/{name}.crt", plain=True)
        assert status == 200
        certificate = x509.load_der_x509_certificate(der)
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert points[0].full_name[0].value == f"{gateway.quickstart['http']}/ca/root.crl", "of who signed it"


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        ('[[profiles]]\nslug = "x"\nauthority = "issuing"\npolcy = "x"', 'did you mean "policy"?'),
        ("[[applications]]\nname = 'UPPER'", "is not a name here"),
        ("nonsense", "this is not TOML"),
        ('[[profiles]]\nslug = "x"\nauthority = "nobody"\npolicy = "device"', "nobody"),
    ],
)
def test_a_declaration_that_cannot_be_applied_says_why(
    folder: Path, tmp_path: Path, declaration: str, sentence: str
) -> None:
    file = tmp_path / "muster.toml"
    file.write_text(declaration)
    refused = muster("apply", "-f", str(file), "--data", str(folder))
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr


def test_apply_and_token_need_a_folder_that_was_started_once(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text("")
    for words in (["apply", "-f", str(tmp_path / "d.toml")], ["bearer", "create", "--name", "x"]):
        refused = muster(*words, "--data", str(tmp_path / "none"))
        assert refused.returncode == 2
        assert "start a gateway there first" in refused.stderr
        assert not (tmp_path / "none").exists()


def test_a_new_token_works_at_once_and_only_where_it_may(gateway: RunningGateway) -> None:
    """D10: shown once, stored hashed."""
    data = ("--data", str(gateway.folder))
    made = muster("bearer", "create", "--name", "ci", "--application", "demo", "--role", "operator", *data)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert token.startswith("mst_")
    as_ci = RunningGateway(**{**vars(gateway), "quickstart": {**gateway.quickstart, "adminToken": token}})
    assert enroll(as_ci) in {200, 201}
    assert token.encode() not in (gateway.folder / "store.sqlite").read_bytes()
    unknown = muster("bearer", "create", "--name", "ci", "--application", "none", *data)
    assert unknown.returncode == 2
    assert "there is no application none" in unknown.stderr
    for days in ("-4", "99999999", "x"):
        wrong = muster("bearer", "create", "--name", "ci", f"--days={days}", *data)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert f"'{days}' is not a number of days" in wrong.stderr


def test_every_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [], ["serve"], ["apply"], ["authority"], ["authority", "create"], ["authority", "rekey"], ["token"],
        ["token", "list"], ["bearer"], ["bearer", "create"], ["doctor"], ["version"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:  # in this process: a dozen more would take seconds to start
            main([*words, "--help"])
        assert ended.value.code == 0
        assert "example" in capsys.readouterr().out, words
    alone = muster()
    assert alone.returncode == 2
    assert "example" in alone.stderr
    wrong = muster("srve")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
