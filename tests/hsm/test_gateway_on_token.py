"""`muster serve` with its CA and RA on a real token: enrollment by REST and SCEP, restarts, and a token that comes and goes."""

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.conformance.test_rest_clients import Rest, managed
from tests.conformance.test_scep_clients import Scep
from tests.doubles.gateway import GatewayDidNotStart, RunningGateway, running_gateway
from tests.doubles.programs import installed
from tests.hsm.kit import MODULE, PIN

pytestmark = pytest.mark.conformance


def variables(hsm, **more: str) -> dict[str, str]:
    return {
        "SOFTHSM2_CONF": str(hsm.configuration),
        "MUSTER_SIGNER_PKCS11_MODULE": MODULE,
        "MUSTER_SIGNER_TOKEN": "hsm",
        "MUSTER_SIGNER_WORKERS": "2",
        **more,
    }


def issues(muster: RunningGateway, folder: Path) -> int:
    rest = Rest(muster, folder)
    status, document = rest.create(managed())
    if status == 200:
        rest.verify(document["certificate"])
    return status


def test_the_main_job_runs_with_its_keys_on_a_token(hsm, tmp_path):
    installed("curl", "openssl", "pki")
    with running_gateway(tmp_path / "data", variables=variables(hsm, MUSTER_SIGNER_PIN=PIN)) as muster:
        for name in ("root", "issuing", "issuing-ra"):
            assert (tmp_path / "data" / "keys" / f"{name}.key").read_bytes().startswith(b'{"version":2')
        assert issues(muster, tmp_path) == 200
        scep = Scep(muster, tmp_path)
        scep.authorities()
        scep.key("device.key")
        leaf = scep.enroll("--in", "device.key", "--dn", "CN=device-1", "--password", scep.challenge)
        assert scep.verify(leaf).public_bytes(Encoding.DER)
        assert PIN not in muster.log
    (tmp_path / "pin").write_text(PIN)
    with running_gateway(
        tmp_path / "data", variables=variables(hsm, MUSTER_SIGNER_PIN_FILE=str(tmp_path / "pin"))
    ) as muster:
        assert issues(muster, tmp_path) == 200


def test_a_token_that_is_taken_away_costs_503_and_no_more(hsm, tmp_path):
    installed("curl", "openssl")
    with running_gateway(tmp_path / "data", variables=variables(hsm, MUSTER_SIGNER_PIN=PIN)) as muster:
        assert issues(muster, tmp_path) == 200
        hsm.remove()
        assert issues(muster, tmp_path) == 503
        hsm.bring_back()
        until = time.monotonic() + 60
        while issues(muster, tmp_path) != 200:
            assert time.monotonic() < until
            time.sleep(0.5)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"MUSTER_SIGNER_PIN": "wrong-pin"}, "refuses the PIN"),
        ({}, "no PIN was given"),
        ({"MUSTER_SIGNER_PIN": PIN, "MUSTER_SIGNER_TOKEN": "nobody"}, "nobody"),
        ({"MUSTER_SIGNER_PIN": PIN, "MUSTER_SIGNER_PKCS11_MODULE": "/nowhere.so"}, "/nowhere.so"),
        ({"MUSTER_SIGNER_PIN": PIN, "MUSTER_SIGNER_TOKEN": ""}, "belong together"),
        ({"MUSTER_SIGNER_PIN": PIN, "MUSTER_SIGNER_PIN_FILE": "pin"}, "give one of them"),
    ],
)
def test_a_token_that_cannot_be_used_stops_the_start_with_one_sentence(hsm, tmp_path, more, sentence):
    with (
        pytest.raises(GatewayDidNotStart) as caught,
        running_gateway(tmp_path / "data", variables=variables(hsm, **more)),
    ):
        pass
    assert sentence in caught.value.log
    assert "Traceback" not in caught.value.log
    assert "wrong-pin" not in caught.value.log
