"""Delta lists as relying parties use them: curl fetches what a list says, openssl combines (D19; RFC 5280, 5.2.4)."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.test_revocation import WITHIN, Revoking, followed
from tests.doubles.gateway import muster, start_gateway
from tests.doubles.programs import installed, run

pytestmark = pytest.mark.conformance

# Two authorities: one with a single list, one whose list is spread over two.
DECLARED = """
[[authorities]]
name = "single"
parent = "root"
pathLength = 0
crlDeltas = {deltas}

[[authorities]]
name = "fleet"
parent = "root"
pathLength = 0
crlPartitions = 2
crlUrls = ["{http}/ca/fleet/{{partition}}.crl"]
crlDeltas = {deltas}

[[profiles]]
slug = "single"
authority = "single"
policy = "tls-server"

[[profiles]]
slug = "fleet"
authority = "fleet"
policy = "tls-server"

[[applications]]
name = "demo"
profiles = ["single", "fleet"]
[applications.enrollment.single.api]
[applications.enrollment.fleet.api]
"""


class Deltas(Revoking):
    """A gateway whose authorities have delta lists, by curl and openssl."""

    data: Path

    def settle(self, *, deltas: bool) -> None:
        (self.folder / "declared.toml").write_text(DECLARED.format(http=self.http, deltas=str(deltas).lower()))
        applied = muster("apply", "--data", str(self.data), "-f", str(self.folder / "declared.toml"))
        assert applied.returncode == 0, applied.stderr + applied.stdout

    def text(self, url: str) -> str:
        return run("openssl", "crl", "-noout", "-text", "-in", self.fetch(url), folder=self.folder).text

    def saying(self, url: str, wanted: str, *, there: bool = True) -> str:
        """The list at an address, as text, once it says something, or no longer does."""
        until = time.monotonic() + WITHIN
        while (wanted in (text := self.text(url))) is not there:
            assert time.monotonic() < until, text
            time.sleep(0.1)
        return text

    def hold(self, name: str, url: str) -> Path:
        """Fetch a list as a relying party that keeps it."""
        return self.fetch(url).replace(self.folder / name)

    def trusts(self, certificate: dict, *lists: Path, options: tuple[str, ...] = ()) -> bool:
        """Whether openssl trusts it with these lists, deltas among them."""
        (self.folder / "list.pem").write_text("".join(each.read_text() for each in lists))
        return self.verifies(certificate, "-use_deltas", *options)


def hexadecimal(text: str, what: str) -> int:
    found = re.search(rf"{what}: (?:critical)?\s+(0x)?([0-9A-Fa-f]+)", text)
    assert found is not None, text
    return int(found[2], 16 if found[1] else 10)


def freshest(text: str) -> list[str]:
    return re.findall(r"URI:(\S+)", text.partition("X509v3 Freshest CRL:")[2].partition("Signature")[0])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deltas]:
    installed("curl", "openssl")
    folder = tmp_path_factory.mktemp("deltas")
    running = start_gateway(folder / "data")
    try:
        made = Deltas(running, folder)
        made.data = folder / "data"
        made.settle(deltas=True)
        for name in ("single", "fleet"):
            followed(f"{made.http}/ca/{name}.crt", folder)
        yield made
    finally:
        running.stop()


def test_what_a_delta_alone_revokes_openssl_refuses_and_the_rest_passes(gateway: Deltas):
    bad, good = gateway.issue("single"), gateway.issue("single")
    url = f"{gateway.http}/ca/single.crl"
    said = gateway.saying(url, "Freshest CRL")
    [where] = freshest(said)
    assert where == f"{gateway.http}/ca/single-delta.crl"
    base = gateway.hold("base.pem", url)
    before = gateway.hold("delta.pem", where)
    assert gateway.trusts(bad, base, before)
    gateway.revoke(bad, "keyCompromise")
    assert "Key Compromise" in gateway.listed(where, bad["serialNumber"])
    after = gateway.hold("after.pem", where)
    assert gateway.text(url) == said, "the complete list has its own turn"
    text = gateway.text(where)
    assert "X509v3 Delta CRL Indicator: critical" in text
    assert "Freshest CRL" not in text
    assert hexadecimal(text, "Delta CRL Indicator") == hexadecimal(said, "CRL Number")
    assert hexadecimal(text, "CRL Number") > hexadecimal(said, "CRL Number")
    assert gateway.trusts(bad, base), "this list alone does not know"
    assert not gateway.trusts(bad, base, after)
    assert gateway.trusts(good, base, after)


def test_a_certificate_released_from_its_hold_passes_again_with_a_list_that_has_it(gateway: Deltas):
    """RFC 5280, 5.2.4, b: removeFromCRL."""
    held = gateway.issue("single")
    url = f"{gateway.http}/ca/single.crl"
    delta = f"{gateway.http}/ca/single-delta.crl"
    gateway.revoke(held, "certificateHold")
    gateway.listed(delta, held["serialNumber"])
    gateway.settle(deltas=False)
    gateway.saying(url, "Freshest CRL", there=False)
    without = gateway.issue("single")
    gateway.revoke(without, "superseded")
    gateway.listed(url, without["serialNumber"])  # lists follow each revocation again
    assert "Superseded" in gateway.listed(delta, without["serialNumber"])  # for who holds a list that names it
    gateway.settle(deltas=True)
    gateway.saying(url, "Freshest CRL")
    base = gateway.hold("base.pem", url)
    assert not gateway.trusts(held, base)
    gateway.post(f"/certificates/{held['certificateId']}/revoke", {"revocationReason": "removeFromCRL"})
    gateway.saying(delta, "Remove From CRL")
    newest = gateway.hold("delta.pem", delta)
    assert not gateway.trusts(held, base)
    assert gateway.trusts(held, base, newest)
    assert not gateway.trusts(without, base, newest)


def test_a_partitions_delta_is_of_its_scope(gateway: Deltas):
    """RFC 5280, 5.2.4 and 5.2.5."""
    bad = gateway.issue("fleet")
    good = gateway.issue("fleet")
    while int(good["serialNumber"], 16) % 2 != int(bad["serialNumber"], 16) % 2:
        good = gateway.issue("fleet")
    part = int(bad["serialNumber"], 16) % 2
    url = f"{gateway.http}/ca/fleet/{part}.crl"
    [where] = freshest(gateway.saying(url, "Freshest CRL"))
    assert where == f"{gateway.http}/ca/fleet/{part}-delta.crl"
    base = gateway.hold("base.pem", url)
    gateway.revoke(bad, "superseded")
    gateway.listed(where, bad["serialNumber"])
    newest = gateway.hold("delta.pem", where)
    assert not gateway.trusts(bad, base, newest, options=("-extended_crl",))
    assert gateway.trusts(good, base, newest, options=("-extended_crl",))
    gateway.listed(f"{gateway.http}/ca/fleet-delta.crl", bad["serialNumber"])


def test_a_gateway_that_was_killed_goes_on_with_higher_numbers_and_nothing_lost(tmp_path: Path):
    """kill -9 at any moment: each revocation that was answered is on the delta, and no number comes twice."""
    installed("curl", "openssl")
    running = start_gateway(tmp_path / "data")
    made = Deltas(running, tmp_path)
    made.data = tmp_path / "data"
    made.settle(deltas=True)
    followed(f"{made.http}/ca/single.crt", tmp_path)
    delta = f"{made.http}/ca/single-delta.crl"
    made.saying(f"{made.http}/ca/single.crl", "Freshest CRL")
    numbers, revoked = [hexadecimal(made.text(delta), "CRL Number")], []
    for _ in range(2):
        made.saying(f"{made.http}/ca/single.crl", "Freshest CRL")
        for _ in range(2):
            revoked.append(made.issue("single"))
            made.revoke(revoked[-1], "superseded")
        running.kill()
        port = made.http.rpartition(":")[2]
        https = running.quickstart["rest"].split("/")[2]
        running = start_gateway(tmp_path / "data", "--http", f"127.0.0.1:{port}", "--https", https)
        for each in revoked:
            made.listed(delta, each["serialNumber"])
        numbers.append(hexadecimal(made.text(delta), "CRL Number"))
    assert numbers == sorted(set(numbers))
    assert running.stop() == 0
