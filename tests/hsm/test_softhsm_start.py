"""`muster serve --softhsm` and `muster token`: a token of the data folder's own, found by itself, never in the gateway."""

import os
import stat
from pathlib import Path

import pytest

from bench.rolling import workers
from gateway.serve import softhsm
from gateway.serve.refusal import CannotStart
from tests.conformance.test_rest_clients import Rest, managed
from tests.doubles.gateway import RunningGateway, muster, running_gateway
from tests.doubles.programs import installed, lacking
from tests.hsm.kit import MODULE, PIN

pytestmark = pytest.mark.conformance


@pytest.fixture(autouse=True)
def module() -> None:
    if not os.path.exists(MODULE):
        lacking("needs SoftHSM2 (Debian: softhsm2)")


def issues(gateway: RunningGateway, folder: Path) -> bool:
    installed("curl", "openssl")
    rest = Rest(gateway, folder)
    status, document = rest.create(managed())
    if status == 200:
        rest.verify(document["certificate"])
    return status == 200


def test_the_main_job_starts_on_softhsm_and_later_starts_find_the_token_by_themselves(tmp_path: Path):
    data = tmp_path / "data"
    where = ("--data", str(data))
    with running_gateway(data, "--softhsm") as gateway:
        assert issues(gateway, tmp_path)
        for name in ("root", "issuing"):
            assert "on the token muster" in muster("authority", "show", name, *where).stdout
        assert mapped(gateway, "softhsm") == [], "the gateway's own process has no module in it"
        pin = (data / "softhsm" / "pin").read_text().strip()
        assert pin not in gateway.log
    for path in (data / "softhsm").rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0, f"{path} is {mode:o}"
    with running_gateway(data) as gateway:
        assert issues(gateway, tmp_path)
        made = muster("authority", "create", "more", "--parent", "root", "--yes", *where)
        assert made.returncode == 0, made.stderr
        assert "on the token labelled muster" in made.stdout
        soft = muster("authority", "create", "soft", "--parent", "root", "--software", "--yes", *where)
        assert "in software" in soft.stdout
        renewed = muster("authority", "rekey", "issuing", "--yes", *where)
        assert renewed.returncode == 0, renewed.stderr
        seen = muster("token", "list", "--module", MODULE, *where)
        assert "token 'muster'" in seen.stdout
        assert "6 private keys" in seen.stdout, seen.stdout
        assert pin not in seen.stdout
        assert issues(gateway, tmp_path) or issues(gateway, tmp_path)


def test_a_token_made_first_holds_the_keys_of_a_first_start(tmp_path: Path):
    data = tmp_path / "data"
    made = muster("token", "init-softhsm", "--data", str(data))
    assert made.returncode == 0, made.stderr
    assert f"export MUSTER_SIGNER_PIN_FILE={data}/softhsm/pin" in made.stdout
    assert (data / "softhsm" / "pin").read_text().strip() not in made.stdout
    again = muster("token", "init-softhsm", "--data", str(data))
    assert "is there already" in again.stdout
    with running_gateway(data) as gateway:
        assert issues(gateway, tmp_path)
        assert "on the token muster" in muster("authority", "show", "issuing", "--data", str(data)).stdout


def test_token_list_says_what_people_must_know_and_names_a_module_that_is_none(hsm, tmp_path: Path):
    seen = muster("token", "list", "--module", MODULE, "--data", str(tmp_path / "none"))
    assert "token 'hsm'" in seen.stdout
    assert "initialised" in seen.stdout
    (tmp_path / "no.so").write_text("no module")
    wrong = muster("token", "list", "--module", "no.so", "--module", "nowhere.so", cwd=tmp_path)
    assert "no.so does not load" in wrong.stdout
    assert f"there is no PKCS#11 module {tmp_path}/nowhere.so" in wrong.stdout


def test_a_token_of_ones_own_and_softhsm_contradict_each_other(hsm, tmp_path: Path):
    variables = {"MUSTER_SIGNER_PKCS11_MODULE": MODULE, "MUSTER_SIGNER_TOKEN": "hsm", "MUSTER_SIGNER_PIN": PIN}
    refused = muster("serve", "--softhsm", "--data", str(tmp_path / "data"), **variables)
    assert refused.returncode == 2
    assert "signer.token names another" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_without_softhsm_the_package_is_named_and_nothing_is_made(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(softhsm, "MODULES", ())
    with pytest.raises(CannotStart, match="apt-get install softhsm2"):
        softhsm.find_module()


def test_bearer_tokens_are_made_listed_and_ended_and_the_old_words_say_where_they_went(tmp_path: Path):
    data = tmp_path / "data"
    where = ("--data", str(data))
    with running_gateway(data) as gateway:
        made = muster("token", "create", "--name", "ci", "--product-role", "product_admin", *where)
        assert "bearer tokens are at home under muster bearer now" in made.stderr
        rest = Rest(gateway, tmp_path)
        assert rest.create(managed(), token=made.stdout.strip())[0] in {200, 403}
        listing = muster("bearer", "list", *where).stdout
        token_id = next(line.split()[0] for line in listing.splitlines() if "  ci  " in line)
        ended = muster("bearer", "revoke", token_id, *where)
        assert ended.stdout == "a token of ci works no more\n"
        assert rest.create(managed(), token=made.stdout.strip())[0] == 401
        unknown = muster("bearer", "revoke", token_id, *where)
        assert unknown.returncode == 2
        assert f"there is no bearer token {token_id}" in unknown.stderr


def mapped(gateway: RunningGateway, word: str) -> list[str]:
    """What the parent and its workers have mapped."""
    pids = [gateway.process.pid, *workers(gateway.process.pid)]
    assert len(pids) > 1
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return [line for line in maps.splitlines() if word in line]
