"""The documentation holds together: links lead somewhere, every page is found, what it names is there, and every
command in it is one."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nearpoint.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))]
)


COMMANDS: Any = typer.main.get_command(app)


def without_code(text: str) -> str:
    """The page without its fenced blocks, where nothing is a link or a heading."""
    return re.sub(r"^(```+).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """What the page links to, as written."""
    return re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))


def anchors(page: Path) -> set[str]:
    """The fragments of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", without_code(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            target = target / "README.md" if target.is_dir() else target
            if target.suffix == ".md" and target.exists():
                ahead.append(target)
    assert sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - seen) == []


def typed(text: str) -> Iterator[list[str]]:
    """The words of each command of ours that shell text has, in code blocks or between backticks."""
    for line in text.replace("\\\n", " ").splitlines():
        if not re.search(r"\bnearpoint [a-z]", line):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|()<>"):
                yield from ours(words)
                words = []
            else:
                words.append(word)


def ours(words: list[str]) -> Iterator[list[str]]:
    """What follows our name in a command, which variables and `.venv/bin` may stand before."""
    rest = [word for word in words if not re.match(r"[A-Z_]+=", word)] if words else []
    if rest and rest[0].rpartition("/")[2] == "nearpoint":
        yield rest[1:]


def blocks(text: str) -> list[str]:
    """The lines of the page's fenced shell blocks that are commands, comments taken off."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"(^|\s)#.*$", "", block, flags=re.MULTILINE) for kind, block in found if kind in ("", "sh")]


def refused(words: list[str], *, whole: bool) -> str | None:
    """Why these are no words of a command, or None. `whole`: nothing that has to be said may be missing."""
    command, name = COMMANDS, "nearpoint"
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-") or (words[0] == "COMMAND" and not whole):
            return None
        name, command, words = words[0], command.commands.get(words[0]), words[1:]
        if command is None:
            return f"no command {name}"
    if whole:
        try:
            command.make_context(name, list(words))
        except Exception as error:
            return str(getattr(error, "message", error)) or type(error).__name__
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    said = words[: words.index("--")] if "--" in words else words
    wrong = [word for word in said if word.startswith("--") and word.partition("=")[0] not in known | {"--help"}]
    return f"{name} has no {', '.join(wrong)}" if wrong else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_commands(page: Path) -> None:
    text = page.read_text()
    wrong = {
        " ".join(words): why
        for block in blocks(text)
        for words in typed(block)
        if words and (why := refused(words, whole="--help" not in words))
    }
    for inline in re.findall(r"(?<!`)`(nearpoint [a-z][^`]*)`", without_code(text)):
        for words in typed(inline):
            if why := refused(words, whole=False):
                wrong[" ".join(words)] = why
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_and_measurements_are_there(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE)) <= set(targets)
    named = re.findall(r"(?:\bpython -m bench |`bench\.|-m bench\.)([a-z_]+)", text)
    assert [name for name in named if not (ROOT / "bench" / f"{name}.py").exists()] == []


def test_commands_are_found_and_refused() -> None:
    text = "```sh\nA=1 .venv/bin/nearpoint up --nonsense && nearpoint shell FRA -- aws s3 ls --x  # nearpoint no\n```\n"
    found = [words for block in blocks(text) for words in typed(block)]
    assert found == [["up", "--nonsense"], ["shell", "FRA", "--", "aws", "s3", "ls", "--x"]]
    assert [refused(words, whole=True) is None for words in found] == [False, True]
    assert refused(["members", "ad"], whole=False) == "no command ad"
    assert refused(["delete"], whole=False) is None
    assert refused(["delete"], whole=True) is not None
    assert sum(len(list(typed(block))) for page in PAGES for block in blocks(page.read_text())) > 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_source_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:src/nearpoint/|tests/|bench/|examples/|[a-z]+/)[\w/.-]+\.py)`", page.read_text())
    places = (ROOT, ROOT / "src" / "nearpoint", page.parent)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_map_of_imports_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [sorted(re.findall(r"nearpoint\.(\w+)", layer)) for layer in contracts[0]["layers"]]
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = next(block for block in re.findall(r"```\n(.*?)```", text, flags=re.DOTALL) if block.startswith("cli →"))
    assert [sorted(re.findall(r"\w+", layer)) for layer in drawn.split("→")] == layers
    rooms = {path.name for path in (ROOT / "src" / "nearpoint").iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == rooms
