"""Several gateway workers on one machine: nonces, caches and figures are one gateway's; replaced and killed under load."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import ssl
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.gateway import Quickstart, _quickstart
from bench.load.acme import AccountKey
from bench.load.process_tree import descendants
from bench.load.requests import csr, elliptic
from bench.rolling import Load, Seen, inventory, replaced, workers
from tests.doubles.exposition import read
from tests.doubles.gateway import RunningGateway, muster, running_gateway

WORKERS = 3


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("workers") / "data"
    with running_gateway(folder, "--workers", str(WORKERS)) as running:
        all_there(running)
        yield running


def all_there(gateway: RunningGateway, count: int = WORKERS) -> None:
    """Wait until every worker serves: a gateway is ready with its first one."""
    waited_for(lambda: figure(gateway, "muster_gateway_workers") == count)


def waited_for(what: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


def figure(gateway: RunningGateway, name: str, **labels: str) -> float:
    with urllib.request.urlopen(f"{gateway.quickstart['http']}/metrics", timeout=30) as answer:
        return read(answer.read().decode()).value(name, **labels)


def at(gateway: RunningGateway) -> Quickstart:
    return _quickstart(gateway.folder, gateway.process.pid)


def connections(gateway: RunningGateway, count: int) -> list[http.client.HTTPSConnection]:
    """So many connections, opened at the same time, as a burst is."""
    trust = ssl.create_default_context(cafile=gateway.quickstart["root"])
    address = urlsplit(gateway.quickstart["https"])

    def opened(_: int) -> http.client.HTTPSConnection:
        one = http.client.HTTPSConnection(address.hostname, address.port, context=trust, timeout=30)
        one.connect()
        return one

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(opened, range(count)))


def ask(
    connection: http.client.HTTPSConnection, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def acme(gateway: RunningGateway, what: str) -> str:
    return gateway.quickstart["acmeDirectory"].removesuffix("directory") + what


def fresh_nonce(gateway: RunningGateway, connection: http.client.HTTPSConnection) -> str:
    return ask(connection, "HEAD", urlsplit(acme(gateway, "new-nonce")).path)[1]["replay-nonce"]


def new_account(gateway: RunningGateway, key: AccountKey, nonce: str, connection) -> tuple[int, dict[str, str], bytes]:
    url = acme(gateway, "new-account")
    body = key.signed(url, nonce, {"termsOfServiceAgreed": True})
    return ask(connection, "POST", urlsplit(url).path, body, Content_Type="application/jose+json")


def test_of_a_hundred_who_spend_one_nonce_at_several_workers_one_succeeds(gateway: RunningGateway) -> None:
    """A131: single use holds under concurrency (RFC 8555, 6.5.1)."""
    kept = connections(gateway, 100)
    try:
        for _ in range(3):
            key, nonce = AccountKey(), fresh_nonce(gateway, kept[0])
            with ThreadPoolExecutor(25) as pool:
                told = list(pool.map(lambda one, key=key, nonce=nonce: new_account(gateway, key, nonce, one), kept))
            assert sorted(status for status, _, _ in told)[:99] == [201] + [400] * 98
            refused = [body for status, _, body in told if status == 400]
            assert len(refused) == 99
            assert all(b"badNonce" in body for body in refused)
    finally:
        for one in kept:
            one.close()


def test_a_burst_of_connections_is_spread_over_the_workers(gateway: RunningGateway) -> None:
    pids = workers(gateway.process.pid)
    waited_for(lambda: not held(gateway))  # connections of the test before end
    kept = connections(gateway, 60)
    try:
        shares = Counter(holder(gateway, one, pids) for one in kept)
        assert min(shares[pid] for pid in pids) >= 10, shares
    finally:
        for one in kept:
            one.close()


LISTENS = "0A"


def held(gateway: RunningGateway) -> dict[int, str]:
    """The connections to the HTTPS listener that somebody holds: the client's port, and the socket's number."""
    port = f":{urlsplit(gateway.quickstart['https']).port:04X}"
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:  # proc_pid_net(5)
        _, local, remote, state, *_, inode = line.split()[:10]
        if local.endswith(port) and state != LISTENS and inode != "0":
            found[int(remote.rpartition(":")[2], 16)] = inode
    return found


def holder(gateway: RunningGateway, connection: http.client.HTTPSConnection, pids: Sequence[int]) -> int:
    """The worker at the other end of a connection whose hands were shaken."""
    ours = connection.sock.getsockname()[1]
    inode = held(gateway)[ours]
    for pid in pids:
        for each in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{each}") == f"socket:[{inode}]":
                    return pid
    pytest.fail(f"no worker is at the other end of port {ours}")


def test_an_account_that_was_deactivated_at_one_worker_is_refused_by_all_soon(
    gateway: RunningGateway,
) -> None:
    kept = connections(gateway, 12)
    try:
        key = AccountKey()
        status, headers, _ = new_account(gateway, key, fresh_nonce(gateway, kept[0]), kept[0])
        assert status == 201
        key.kid = headers["location"]

        def read_account(connection: http.client.HTTPSConnection, payload: dict[str, object] | None) -> int:
            body = key.signed(key.kid, fresh_nonce(gateway, connection), payload)
            return ask(connection, "POST", urlsplit(key.kid).path, body, Content_Type="application/jose+json")[0]

        assert [read_account(one, None) for one in kept] == [200] * 12, "every worker remembers it now"
        assert read_account(kept[0], {"status": "deactivated"}) == 200
        for one in kept:  # within a second, where the machine has time for it
            waited_for(lambda one=one: read_account(one, None) == 403)
    finally:
        for one in kept:
            one.close()


def test_a_token_that_was_ended_is_refused_by_all_soon(gateway: RunningGateway) -> None:
    data = ("--data", str(gateway.folder))
    made = muster("bearer", "create", "--name", "brief", "--application", "demo", "--role", "operator", *data)
    assert made.returncode == 0, made.stderr
    kept = connections(gateway, 9)  # after ten wrong ones an address is told 429, by all workers
    body = json.dumps(
        {"applicationName": "demo", "profileName": "tls-server", "attributes": {"commonName": "a.example.com"}}
    ).encode()
    how = {"Authorization": f"Bearer {made.stdout.strip()}", "Content_Type": "application/json"}
    path = f"{urlsplit(gateway.quickstart['rest']).path}/certificates"
    try:
        assert all(ask(one, "POST", path, body, **how)[0] in {200, 201} for one in kept)
        listed = muster("bearer", "list", *data).stdout
        identity = re.search(r"(\S{36}).*brief", listed)
        assert identity is not None, listed
        ended = muster("bearer", "revoke", identity[1], *data)
        assert ended.returncode == 0, ended.stderr
        for one in kept:  # one wrong one each: after ten an address is told 429
            waited_for(lambda one=one: ask(one, "POST", path, body, **how)[0] == 401)
    finally:
        for one in kept:
            one.close()


def test_a_hang_up_replaces_all_workers_no_enrollment_fails_and_nonces_of_before_are_good(
    gateway: RunningGateway,
) -> None:
    kept = connections(gateway, 6)
    nonces = [fresh_nonce(gateway, one) for one in kept]
    for one in kept:
        one.close()
    before, seen, stored = workers(gateway.process.pid), Seen(), inventory(gateway.folder)
    with Load(at(gateway), seen, each=2, pause=0.25):
        time.sleep(1)
        gateway.process.send_signal(signal.SIGHUP)
        assert replaced(gateway.process.pid, before)
        time.sleep(0.5)
    assert seen.failures == {}
    assert seen.answered > 8
    assert inventory(gateway.folder) - stored == seen.answered
    counted = [
        figure(gateway, "muster_enrollments_total", protocol=each, outcome="issued") for each in ("api", "est", "scep")
    ]
    assert sum(counted) >= seen.answered, "what the workers counted that are gone is counted still"
    assert figure(gateway, "muster_gateway_worker_ends_total") == 0
    for nonce in nonces:
        [one] = connections(gateway, 1)
        assert new_account(gateway, AccountKey(), nonce, one)[0] == 201
        one.close()


def test_a_mistake_in_the_settings_is_told_and_changes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    file = tmp_path / "settings.toml"
    file.write_text('[log]\nlevel = "info"\n')
    with running_gateway(data, "--config", str(file), "--workers", "1") as gateway:
        before = workers(gateway.process.pid)
        file.write_text('[log]\nlevle = "info"\n')
        gateway.process.send_signal(signal.SIGHUP)
        waited_for(lambda: "did you mean log.level?" in gateway.log)
        assert workers(gateway.process.pid) == before
        file.write_text('[log]\nlevel = "debug"\n[signer]\nworkers = 3\n')
        gateway.process.send_signal(signal.SIGHUP)
        assert replaced(gateway.process.pid, before)
        waited_for(lambda: "the workers have the settings of now" in gateway.log)
        assert re.search(r"waits for a restart.* setting=signer.workers", gateway.log)
        assert "changed=log_level" in gateway.log
        assert figure(gateway, "muster_signer_workers") == 2


def enroll(gateway: RunningGateway, connection: http.client.HTTPSConnection) -> int:
    request = x509.load_der_x509_csr(csr(elliptic(), "a.example.com")).public_bytes(Encoding.PEM).decode("ascii")
    body = json.dumps({"applicationName": "demo", "profileName": "tls-server", "csr": request}).encode()
    token = (gateway.folder / "admin-token").read_text().strip()
    path = f"{urlsplit(gateway.quickstart['rest']).path}/certificates"
    return ask(connection, "POST", path, body, Authorization=f"Bearer {token}", Content_Type="application/json")[0]


def serials(data: Path) -> Counter[str]:
    with closing(sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True)) as store:
        return Counter(dict(store.execute("SELECT status, count(*) FROM serials GROUP BY status")))


def signer_workers(parent: int) -> list[int]:
    """The processes that sign: below the supervisor, which is below the parent."""
    children = [pid for pid in descendants(parent) if b"signer" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [
        pid for pid in children if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) != parent
    ]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Two workers, which are killed now and then."""
    with running_gateway(tmp_path_factory.mktemp("pair") / "data", "--workers", "2") as running:
        yield running


def test_a_killed_worker_costs_its_own_connections_and_nothing_else(pair: RunningGateway) -> None:
    gateway = pair
    all_there(gateway, 2)
    ends = figure(gateway, "muster_gateway_worker_ends_total")
    seen, stored = Seen(), inventory(gateway.folder)
    with Load(at(gateway), seen, each=2, pause=0.25):
        time.sleep(1)
        counted = figure(gateway, "muster_http_answers_total", **{"class": "2xx"})
        victim = workers(gateway.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        waited_for(lambda: len(set(workers(gateway.process.pid)) - {victim}) == 2)
        assert figure(gateway, "muster_http_answers_total", **{"class": "2xx"}) >= counted, "no counter falls"
    # Each client was on one connection, and had one request under way at most.
    assert sum(seen.failures.values()) <= 6
    made = inventory(gateway.folder) - stored
    assert seen.answered <= made <= seen.answered + sum(seen.failures.values())
    all_there(gateway, 2)
    assert figure(gateway, "muster_gateway_worker_ends_total") == ends + 1
    whole = muster("doctor", "--audit", "--data", str(gateway.folder))
    assert whole.returncode == 0, whole.stderr


def test_what_a_killed_worker_had_in_mid_signature_is_given_up_within_seconds(pair: RunningGateway) -> None:
    """A87: the client's next ask is not answered by a wait for the overdue rule, and gets one certificate."""
    gateway = pair
    all_there(gateway, 2)
    waited_for(lambda: serials(gateway.folder)["reserved"] == 0)  # what another death left
    pids = workers(gateway.process.pid)
    before = inventory(gateway.folder)
    [connection] = connections(gateway, 1)
    asked = holder(gateway, connection, pids)
    signers, burnt = signer_workers(gateway.process.pid), serials(gateway.folder)["burnt"]
    assert signers
    for each in signers:
        os.kill(each, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            enrolling = pool.submit(enroll, gateway, connection)
            waited_for(lambda: serials(gateway.folder)["reserved"] == 1)
            os.kill(asked, signal.SIGKILL)
            with pytest.raises((OSError, http.client.HTTPException)):
                enrolling.result()
        # While they are stopped, and may have the request: the overdue rule would take three minutes.
        waited_for(lambda: serials(gateway.folder)["burnt"] == burnt + 1, 30)
    finally:
        for each in signers:
            os.kill(each, signal.SIGCONT)
    [connection] = connections(gateway, 1)
    waited_for(lambda: enroll(gateway, connection) in {200, 201})
    connection.close()
    assert inventory(gateway.folder) == before + 1
    assert serials(gateway.folder)["reserved"] == 0
    whole = muster("doctor", "--audit", "--data", str(gateway.folder))
    assert whole.returncode == 0, whole.stderr


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "data", "--workers", "2") as gateway:
        all_there(gateway, 2)
        pids = workers(gateway.process.pid)
        gateway.kill()
        waited_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)
