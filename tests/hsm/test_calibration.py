"""`muster doctor --signer`: real signatures on a real token and in software, and nothing is left of them."""

import pkcs11
from pkcs11 import Attribute, ObjectClass

from gateway.cli.calibration import bar, hint, shown
from gateway.serve.calibration import Row
from tests.doubles.gateway import muster, running_gateway
from tests.hsm.kit import MODULE, PIN


def variables(hsm) -> dict[str, str]:
    return {
        "SOFTHSM2_CONF": str(hsm.configuration),
        "MUSTER_SIGNER_PKCS11_MODULE": MODULE,
        "MUSTER_SIGNER_TOKEN": "hsm",
        "MUSTER_SIGNER_PIN": PIN,
    }


def private_keys() -> int:
    pkcs11.lib(MODULE).reinitialize()
    token = pkcs11.lib(MODULE).get_token(token_label="hsm")
    with token.open(user_pin=PIN) as session:
        return len(list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})))


def test_a_token_is_measured_with_keys_that_end_with_their_sessions(hsm, tmp_path):
    folder = tmp_path / "data"
    with running_gateway(folder, variables=variables(hsm)):
        before = private_keys()
        files = sorted(each.name for each in (folder / "keys").iterdir())
        measured = muster("doctor", "--signer", "--data", str(folder), **variables(hsm))
    assert (measured.returncode, measured.stderr) == (0, "")
    assert "EC_prime256v1, token hsm" in measured.stdout
    assert "RSA_2048, token hsm" in measured.stdout  # the RA's
    assert measured.stdout.count("signer.workers is 2") == 2
    assert private_keys() == before
    assert sorted(each.name for each in (folder / "keys").iterdir()) == files


def test_a_token_that_cannot_be_used_is_said_so(hsm, tmp_path):
    folder = tmp_path / "data"
    with running_gateway(folder, variables=variables(hsm)):
        pass
    hsm.remove()
    measured = muster("doctor", "--signer", "--data", str(folder), **variables(hsm))
    assert measured.returncode == 1
    assert "hsm" in measured.stdout.split("workers", 1)[1]
    assert "Traceback" not in measured.stdout + measured.stderr


def rows(*per_second: float) -> list[Row]:
    return [Row("EC_prime256v1", "hsm", number, each, 50.0, 90.0) for number, each in enumerate(per_second, 1)]


def test_the_hint_names_the_number_after_which_one_more_adds_little():
    assert hint(rows(1000, 1900, 1957, 1950), 2).startswith("2 workers of 1900 signatures a second; one more adds 3 %")
    assert "one more adds nothing" in hint(rows(1000, 1000), 1)
    assert "the second is there" in hint(rows(1000, 1010), 2)
    assert "more were not measured" in hint(rows(1000, 2000), 2)


def test_the_plot_is_as_long_as_its_figure():
    assert [bar(0), bar(0.5), bar(1), bar(2)] == ["", "█" * 12, "█" * 24, "█" * 24]
    assert bar(1 / 24 / 8) == "▏"
    assert shown([Row("EC_prime256v1", "hsm", 1, trouble="it is away")], 2)[-1].endswith("it is away")
