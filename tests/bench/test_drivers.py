"""Every driver against a gateway that runs: a moment of load, in other processes, and what the command prints of it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.load import __main__ as command
from bench.load.acme import Acme, Responder
from bench.load.arrivals import Open
from bench.load.est import Enrolling, Est
from bench.load.fleet import Fleet
from bench.load.ocsp import Ocsp
from bench.load.rest import Rest
from bench.load.run import Plan, load
from bench.load.scep import Scep
from bench.load.trust import Trust
from bench.load.wire import Connection
from tests.doubles.gateway import RunningGateway, running_gateway

Made = Callable[["Place"], Fleet]


class Place:
    """A gateway, a responder at the port where it validates, and the files that clients hold."""

    def __init__(self, gateway: RunningGateway, responder: Responder, folder: Path) -> None:
        self.gateway, self.responder, self.folder = gateway, responder, folder
        self.facts = gateway.quickstart
        self.trust = Trust(self.facts["root"])

    def authority(self, name: str) -> bytes:
        with urllib.request.urlopen(f"{self.facts['http']}/ca/{name}.crt", timeout=30) as answer:
            body: bytes = answer.read()
            return body

    def est(self) -> Est:
        est = self.facts["est"]
        return Est(est["url"], self.trust, est["user"], est["passphrase"])

    def held(self) -> str:
        """A client certificate with its key, enrolled here."""
        file = self.folder / "client.pem"
        if not file.exists():
            enrolling, connection = Enrolling(self.est()), Connection(self.facts["est"]["url"], self.trust.context())
            issued = connection.play(enrolling.issue(opened=True))
            connection.close()
            key = enrolling.template.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            file.write_bytes(key + issued)
        return str(file)

    def rest(self, server_key: str = "") -> Rest:
        facts = self.facts
        return Rest(
            facts["rest"],
            self.trust,
            facts["adminToken"],
            facts["application"],
            facts["profile"],
            server_key=server_key,
        )

    def ocsp(self, *, nonce: bool) -> Ocsp:
        issuing, root = self.authority("issuing"), self.authority("root")
        return Ocsp(f"{self.facts['http']}/ocsp/root", self.trust, issuing, root, nonce)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    responder = Responder()
    folder = tmp_path_factory.mktemp("load")
    with running_gateway(folder / "data", "--acme-http01-port", str(responder.port)) as gateway:
        yield Place(gateway, responder, folder)
    responder.close()


def acme(place: Place, *, only_read: bool = False) -> Acme:
    address = place.responder.address
    return Acme(
        place.facts["acmeDirectory"], place.trust, names="localhost", key_authorizations=address, only_read=only_read
    )


FLEETS: dict[str, Made] = {
    "ACME with http-01": acme,
    "ACME, one POST-as-GET": lambda place: acme(place, only_read=True),
    "EST by passphrase": Place.est,
    "EST by certificate, a handshake each": lambda place: Est(
        place.facts["est"]["url"], Trust(place.facts["root"], certificate=place.held()), fresh=True
    ),
    "SCEP by POST": lambda place: Scep(place.facts["scep"]["url"], Trust(), place.facts["scep"]["challenge"]),
    "SCEP by GET, opened": lambda place: Scep(
        place.facts["scep"]["url"], Trust(), place.facts["scep"]["challenge"], by_get=True, open_answers=True
    ),
    "REST with a CSR": Place.rest,
    "REST with a key of the server's": lambda place: place.rest("EC_prime256v1"),
    "OCSP by GET": lambda place: place.ocsp(nonce=False),
    "OCSP by POST": lambda place: place.ocsp(nonce=True),
}


@pytest.mark.conformance
@pytest.mark.parametrize("name", FLEETS)
def test_a_driver_gets_what_it_asks_for(place: Place, name: str):
    plan = Plan(Open(10.0, even=True), clients=2, seconds=0.5, warm_up=0.0)
    outcome = load(FLEETS[name](place), plan, server=place.gateway.process.pid)
    assert (outcome.tally.wrong, outcome.tally.first_failure) == (0, "")
    assert outcome.tally.done == outcome.tally.arrived == 5
    assert outcome.server_cpu is not None


@pytest.mark.conformance
@pytest.mark.parametrize("nonce", [False, True])
def test_a_status_under_another_issuer_is_not_done(place: Place, *, nonce: bool):
    issuing = place.authority("issuing")
    wrong = Ocsp(f"{place.facts['http']}/ocsp/root", place.trust, issuing, issuing, nonce)
    tally = load(wrong, Plan(Open(10.0, even=True), clients=2, seconds=0.5, warm_up=0.0)).tally
    assert (tally.done, tally.failed) == (0, 5)
    assert "does not know the certificate" in tally.first_failure


@pytest.mark.conformance
def test_an_acme_directory_may_be_asked_for_under_another_name_than_its_resources_have(place: Place):
    fleet = acme(place)
    named = urlsplit(fleet.url)
    other = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}[named.hostname or ""]
    asked = replace(fleet, url=named._replace(netloc=f"{other}:{named.port}").geturl())
    plan = Plan(Open(10.0, even=True), clients=2, seconds=0.5, warm_up=0.0)
    with pytest.raises(RuntimeError, match="another origin"):
        load(asked, plan)
    tally = load(asked.located(), plan).tally
    assert tally.done == tally.arrived == 5


@pytest.mark.conformance
def test_two_processes_share_an_open_loop(place: Place):
    plan = Plan(Open(30.0, even=True), clients=6, processes=2, seconds=1.0, warm_up=0.1)
    tally = load(place.rest(), plan).tally
    assert tally.arrived in {29, 30, 31}
    assert tally.done == tally.arrived


@pytest.mark.conformance
def test_the_command_prints_a_row_and_writes_its_record(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    est, file = place.facts["est"], tmp_path / "figures.json"
    monkeypatch.setenv("LOAD_PASSPHRASE", est["passphrase"])
    words = ["est", "--server", est["url"], "--user", est["user"], "--ca", place.facts["root"], "--json", str(file)]
    assert command.main([*words, "--seconds", "0.4", "--warm-up", "0", "--clients", "4", "--rate", "20"]) == 0
    printed = capsys.readouterr().out
    assert "p99.9" in printed
    assert est["passphrase"] not in printed + file.read_text()
    (run,) = json.loads(file.read_text())["runs"]
    assert run["arrived"] == run["done"] > 0
    assert run["waits"]["count"] == sum(count for _, count in run["waits"]["cells"])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["est", "--server", "https://h/est", "--user", "u"], "--passphrase-file"),
        (["est", "--server", "https://h/est"], "--user or --certificate"),
        (["acme", "--directory", "https://h/d", "--eab-kid", "k"], "--eab-hmac-file"),
        (["rest", "--url", "https://h", "--application", "a", "--profile", "p"], "--token-file"),
        (["scep", "--url", "http://h/s", "--challenge-file", "/nowhere"], "--challenge-file"),
        (["scep", "--url", "http://h/s", "--rate", "0"], "--rate"),
        (["scep", "--url", "http://h/s", "--processes", "20"], "--clients"),
        (["scep", "--url", "gopher://h/s"], "--url: 'gopher://h/s' is no http or https URL"),
        (["ocsp", "--url", "http://h/o", "--issuer", "/nowhere", "--certificate", "/nowhere"], "--certificate"),
        (["ocsp", "--url", "http://h/o", "--issuer", "i", "--certificate", "c", "--key", "k"], "--key"),
        (["scep"], "--url"),
        (["scep", "--url", "http://h:99999/s"], "--url"),
        (["scep", "--url", "http://h/s", "--rate", "inf"], "--rate"),
        (["scep", "--url", "http://h/s", "--seconds", "inf"], "--seconds"),
        (["scep", "--url", "http://h/s", "--seconds", "nan"], "--seconds"),
        (["scep", "--url", "http://h/s", "--warm-up", "nan"], "--warm-up"),
        (["scep", "--url", "http://h/s", "--clients", "0"], "--clients"),
        (["scep", "--url", "http://h/s", "--processes", "0"], "--processes"),
        (["scep", "--url", "http://h/s", "--pid", "99999999"], "--pid"),
        (["scep", "--url", "http://h/s", "--json", "/proc/nowhere/figures.json"], "--json"),
        (["scep", "--url", "http://h/s", "--ca", "/nowhere"], "--ca: /nowhere"),
        (["scep", "--url", "http://h/s", "--ca", __file__], f"--ca: {__file__}"),
        (["scep", "--url", "http://h/s", "--certificate", "/nowhere"], "--certificate: /nowhere"),
        (["scep", "--url", "http://h/s", "--certificate", __file__], f"--certificate: {__file__}"),
        (["scep", "--url", "http://h/s", "--certificate", __file__, "--key", __file__], f"--key: {__file__}"),
        (["scep", "--url", "http://h/s", "--key", __file__], "--certificate"),
        (["scep", "--url", "http://h/s", "--names", "ü{n}.example"], "--names"),
        (["acme", "--directory", "https://h/d", "--http01-port", "99999"], "--http01-port"),
        (["acme", "--directory", "https://h/d", "--http01-port", "-1"], "--http01-port"),
        (["acme", "--directory", "https://h/d", "--poll", "nan"], "--poll"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_option(
    words: list[str], option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("LOAD_PASSPHRASE", "LOAD_TOKEN", "LOAD_CHALLENGE", "LOAD_EAB_HMAC"):
        monkeypatch.delenv(name, raising=False)
    assert command.main(words) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("bench.load: ")
    assert option in said
