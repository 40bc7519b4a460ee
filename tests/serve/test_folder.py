"""The data folder: looked at without a trace, held by one gateway, whole or refused with one sentence."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.serve import folder
from gateway.serve.folder import Folder, State
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings, load


def settings_for(path: Path) -> Settings:
    return load({"data": str(path)}, {}, folder=path.parent)


def whole(path: Path) -> Folder:
    place = Folder(path)
    folder.make(place)
    folder.write_private(place.secret, b"secret\n")
    place.keys.mkdir()
    (place.keys / "root.key").write_text("{}")
    place.tls.mkdir()
    for name in ("chain.pem", "key.pem"):
        (place.tls / name).write_text("PEM")
    place.store.write_bytes(b"SQLite format 3\0" + bytes(84))
    folder.finish(place)
    return place


def look_and_make(path: Path) -> None:
    folder.inspect(settings_for(path))
    folder.make(Folder(path))


def photograph(path: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(each.relative_to(path)): (each.stat().st_mode, each.read_bytes() if each.is_file() else b"")
        for each in path.rglob("*")
    }


def test_a_missing_or_empty_folder_is_fresh_and_stays_as_it_is(tmp_path: Path) -> None:
    assert folder.inspect(settings_for(tmp_path / "a" / "b")) is State.FRESH
    assert not (tmp_path / "a").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "muster.toml").write_text("")
    assert folder.inspect(settings_for(tmp_path / "data")) is State.FRESH


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    place = whole(tmp_path / "data")
    assert place.path.stat().st_mode & 0o777 == 0o700
    assert place.secret.stat().st_mode & 0o777 == 0o600
    assert place.marker.stat().st_mode & 0o777 == 0o600


def test_an_interrupted_first_start_is_taken_up_again(tmp_path: Path) -> None:
    place = Folder(tmp_path / "data")
    folder.make(place)
    place.keys.mkdir()
    assert folder.inspect(settings_for(place.path)) is State.UNFINISHED
    folder.make(place)
    folder.finish(place)
    assert not place.unfinished.exists()


def test_a_whole_folder_is_complete(tmp_path: Path) -> None:
    place = whole(tmp_path / "data")
    assert folder.inspect(settings_for(place.path)) is State.COMPLETE


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda place: place.marker.write_text("{"), "muster.json cannot be read"),
        (lambda place: place.marker.write_text('{"format": "1"}'), "muster.json cannot be read"),
        (lambda place: place.marker.write_text(json.dumps({"format": 2})), "newer version of Muster"),
        (lambda place: place.secret.unlink(), "unlock-secret is missing"),
        (lambda place: place.secret.write_text("\n"), "unlock secret is empty"),
        (lambda place: (place.keys / "root.key").unlink(), "keys/ is missing or empty"),
        (lambda place: (place.tls / "key.pem").unlink(), "tls/key.pem is missing"),
        (lambda place: place.store.unlink(), "store.sqlite is missing"),
        (lambda place: place.store.write_bytes(b""), "store.sqlite is not a SQLite database"),
        (lambda place: place.store.write_bytes(b"garbage" * 100), "store.sqlite is not a SQLite database"),
        (lambda place: place.marker.unlink(), "no data folder of Muster"),
    ],
)
def test_a_damaged_folder_is_one_sentence_and_stays_as_it_is(tmp_path: Path, damage: object, sentence: str) -> None:
    place = whole(tmp_path / "data")
    damage(place)  # type: ignore[operator]
    before = photograph(place.path)
    with pytest.raises(CannotStart, match=sentence) as refusal:
        folder.inspect(settings_for(place.path))
    assert "\n" not in str(refusal.value)
    assert str(place.path) in str(refusal.value)
    assert photograph(place.path) == before


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(CannotStart, match=r"is not empty and has no muster\.json"):
        folder.inspect(settings_for(tmp_path))


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/muster-data")):
        with pytest.raises(CannotStart) as refusal:
            look_and_make(path)
        assert "\n" not in str(refusal.value)


def test_a_store_elsewhere_needs_no_file_here(tmp_path: Path) -> None:
    place = whole(tmp_path / "data")
    place.store.unlink()
    settings = replace(settings_for(place.path), store_url="postgresql://db/muster")
    assert folder.inspect(settings) is State.COMPLETE


def _hold(path: Path, held: object, release: object) -> None:
    with folder.held(Folder(path)):
        folder.note_holder(Folder(path))
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_a_held_folder_names_its_holder_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    place = whole(tmp_path / "data")
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(place.path, held, release))
    holder.start()
    try:
        assert held.wait(30)
        with pytest.raises(CannotStart, match=rf"in use by a running gateway \(process {holder.pid}\)"):
            folder.refuse_if_held(place)
        with pytest.raises(CannotStart, match="in use by a running gateway"), folder.held(place):
            pass
    finally:
        holder.kill()
        holder.join()
    folder.refuse_if_held(place)
    with folder.held(place):
        pass


def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    folder.write_private(path, b"first")
    folder.write_private(path, b"second")
    assert path.read_bytes() == b"second"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    with pytest.raises(TypeError):
        folder.write_private(path, "text")  # type: ignore[arg-type]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
