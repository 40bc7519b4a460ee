"""The house rules of docs/architecture.md, held mechanically."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("gateway", "protocols", "signer", "bench")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
JUNK = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc", "base", "core", "context"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_who_may_import_whom_is_as_the_contracts_say():
    program = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    outcome = subprocess.run([*program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize("package", [path for path in FILES if path.name == "__init__.py"], ids=relative)
def test_every_package_has_a_door_sign(package: Path):
    sign = ast.get_docstring(ast.parse(package.read_text()))
    assert sign is not None, "a package says at its door what lives there and what must never happen there"
    assert 2 <= len(sign.splitlines()) <= 12


def test_every_folder_of_code_is_a_package():
    for folder in {path.parent for path in FILES}:
        assert (folder / "__init__.py").exists(), relative(folder)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_file_says_at_its_head_what_it_is(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text())), "no docstring at the head"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_outgrows_its_room(path: Path):
    assert len(path.read_text().splitlines()) <= 600


def test_no_junk_drawers():
    for path in FILES:
        assert not JUNK & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}, relative(path)


def test_any_is_spelled_in_one_file_only():
    spelled = re.compile(r"\bAny\b")
    users = [relative(path) for path in FILES if spelled.search(_code(path))]
    assert users == ["protocols/exchange.py"]


def test_no_class_is_called_bare_request():
    for path in FILES:
        names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
        assert "Request" not in names, relative(path)


def test_the_top_level_holds_what_the_plan_names_and_nothing_else():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    allowed = {*ROOMS, "tests", "docs", ".ci", ".github", ".gitignore"}
    assert top <= allowed | {"pyproject.toml", "README.md", "Makefile", "LICENSE"}


def _code(path: Path) -> str:
    """The file's identifiers, without its strings and comments."""
    return " ".join(node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name))
