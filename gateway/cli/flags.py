"""The flags that several commands share: those that find a gateway's settings. No setting is interpreted here."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gateway.serve.known_settings import KEYS, Key
from gateway.serve.settings import Settings, load
from gateway.serve.softhsm import adopted


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add `--config` and a flag for each of these settings (all that have one, where none is named)."""
    parser.add_argument("--config", metavar="FILE", help="settings file (default: muster.toml in the data folder)")
    for key in KEYS:
        if key.flag and (not names or key.name in names):
            parser.add_argument(f"--{key.name}", metavar=_metavar(key), help=_help(key))


def settings(options: argparse.Namespace) -> Settings:
    """Load the settings as flags, environment and file say. Raises `CannotStart`."""
    given: dict[str, str] = {}
    for key in KEYS:
        value: str | None = getattr(options, key.name.replace("-", "_"), None) if key.flag else None
        if value is not None:
            given[key.name] = value
    config = Path(options.config).absolute() if options.config else None
    return adopted(load(given, os.environ, folder=Path.cwd(), config=config))


def _metavar(key: Key) -> str:
    return {"data": "FOLDER", "acme-http01-port": "PORT", "workers": "COUNT"}.get(
        key.name, "URL" if "url" in key.name else "HOST:PORT"
    )


def _help(key: Key) -> str:
    default = f"default {key.default}, " if key.default else ""
    meaning = key.meaning.partition(" ([")[0]  # a link is for the page
    return f"{meaning} ({default}{key.variable})".replace("%", "%%")
