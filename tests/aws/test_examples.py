"""The example templates: what CloudFormation's own schemas say of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TEMPLATES = sorted(EXAMPLES.glob("*/template.yaml"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.parent.name)
def test_cfn_lint_has_nothing_to_say(template: Path) -> None:
    assert "cfn-lint" not in template.read_text()  # no rule is suppressed in the template either
    ran = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--regions", "us-east-1", "--include-checks", "I",
         "--", template],
        capture_output=True, text=True, check=False, timeout=100, cwd=EXAMPLES,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_every_example_is_among_them() -> None:
    assert {path.parent.name for path in TEMPLATES} == {"active-active", "origin-failover", "signed-by-cloudfront"}
