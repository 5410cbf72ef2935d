"""Puts an imported template and its functions' code on disk: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nearpoint.aws.errors import DeployError


def write(path: Path, text: str, folders: Mapping[str, Mapping[str, bytes]]) -> None:
    """The template at `path`, each function's files in a folder beside it. Raises DeployError where something of that
    name is there already."""
    there = [each for each in (path, *(path.parent / folder for folder in folders)) if each.exists()]
    if there:
        raise DeployError(
            f"{', '.join(str(each) for each in there)} would be overwritten; name another --output.", refused=True
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder, files in folders.items():
        for name, data in files.items():
            target = path.parent / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    path.write_text(text, "utf-8")  # last: a template that is there is whole
