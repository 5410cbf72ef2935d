from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.behavior import choose_behavior, compile_pattern, normal_path


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/images/*", "/images/a.jpg", True),
        ("images/*", "/images/a.jpg", True),
        ("/images/*", "/images", False),
        ("*.jpg", "/a/b.jpg", True),
        ("*.jpg", "/a/b.JPG", False),
        ("/a/?.txt", "/a/b.txt", True),
        ("/a/?.txt", "/a/.txt", False),
        ("/a/?.txt", "/a/bb.txt", False),
        ("/a*b*c", "/axxbxxc", True),
        ("/a*b*c", "/axxcxxb", False),
        ("/a*a", "/a", False),
        ("*", "/", True),
        ("/**", "/anything", True),
        ("/a", "/a", True),
        ("/a", "/ab", False),
        ("/*.?pg", "/x.jpg", True),
        ("/*?", "/", False),
        ("/[a]*", "/a", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert compile_pattern(pattern).matches(path) is matches


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=10))
def test_patterns_mean_what_fnmatch_means(pattern: str, path: str) -> None:
    made = compile_pattern("/" + pattern)
    assert made.matches("/" + path) == bool(re.match(fnmatch.translate("/" + pattern), "/" + path))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/../../b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/a/..", "/"),
        ("/%41%2F%20", "/A%2F%20"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a//b", "/a//b"),
    ],
)
def test_paths_are_normalised_for_matching(path: str, expected: str) -> None:
    assert normal_path(path) == expected


class Rule:
    def __init__(self, pattern: str | None) -> None:
        self.pattern = compile_pattern(pattern) if pattern else None


def test_the_first_match_wins_and_dots_do_not_hide_a_path() -> None:
    private, jpg, default = Rule("/private/*"), Rule("*.jpg"), Rule(None)
    rules = [private, jpg, default]
    assert choose_behavior(rules, "/private/a.jpg") is private
    assert choose_behavior(rules, "/a.jpg") is jpg
    assert choose_behavior(rules, "/a.png") is default
    assert choose_behavior(rules, "/x/%2e%2e/private/a") is private
