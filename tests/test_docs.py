"""The documentation holds together: links lead somewhere, every page is found, what it names is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))]
)


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
