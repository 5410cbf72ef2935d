"""The page of commands is what the commands say."""

from __future__ import annotations

from pathlib import Path

from nearpoint.cli.reference import reference


def test_the_page_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
    assert page.read_text() == reference(), "run: python -m nearpoint.cli.reference > docs/reference/cli.md"


def test_every_command_has_an_example() -> None:
    sections = reference().split("\n## ")[1:]
    assert len(sections) > 10
    assert [section.splitlines()[0] for section in sections if "```sh" not in section] == []
