"""A gateway on PostgreSQL: the same first start, and a store that belongs to one data folder alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.gateway import GatewayDidNotStart, muster, running_gateway, start_gateway
from tests.doubles.postgresql import Cluster
from tests.serve.test_gateway import enroll, get

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(postgresql: Cluster) -> Iterator[str]:
    with postgresql.database() as url:
        yield url


def settings_file(folder: Path, url: str) -> str:
    (folder / "settings.toml").write_text(f'[store]\nurl = "{url}"\n')
    return str(folder / "settings.toml")


def test_a_gateway_keeps_everything_in_postgresql(tmp_path: Path, database: str) -> None:
    config = settings_file(tmp_path, database)
    data = tmp_path / "data"
    with running_gateway(data, "--config", config) as first:
        assert enroll(first) in {200, 201}
        made = muster("bearer", "create", "--name", "ci", "--data", str(data), "--config", config)
        assert made.returncode == 0, made.stderr
    assert not (data / "store.sqlite").exists()
    with running_gateway(data, "--config", config) as again:
        assert get(again, "/readyz")[0] == 200
        assert enroll(again) in {200, 201}


def test_a_new_folder_on_a_store_in_use_is_refused_with_a_sentence(tmp_path: Path, database: str) -> None:
    config = settings_file(tmp_path, database)
    with running_gateway(tmp_path / "data", "--config", config):
        pass
    with pytest.raises(GatewayDidNotStart) as refusal:
        start_gateway(tmp_path / "another", "--config", config)
    assert refusal.value.status == 2
    assert "the store belongs to another data folder" in refusal.value.log
    assert "Traceback" not in refusal.value.log


def test_a_server_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    config = settings_file(tmp_path, "postgresql:///nothing?host=/nowhere")
    with pytest.raises(GatewayDidNotStart) as refusal:
        start_gateway(tmp_path / "data", "--config", config)
    assert refusal.value.status == 2
    assert "the store cannot be opened" in refusal.value.log
    assert "Traceback" not in refusal.value.log
