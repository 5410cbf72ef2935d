"""The tutorial's commands, as they are written, in its order. Where it says AWS there is a second local world, which
`--target aws` reaches as it reaches AWS: with a profile's credentials, through the environment's proxy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "tutorial" / "laptop-to-aws.md").read_text()
NEARPOINT = (sys.executable, "-m", "nearpoint")


def section(number: int) -> list[str]:
    """The commands of a section."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)[number]
    assert text.startswith(f"{number}. ")
    return [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]


class Reader:
    """Follows the tutorial in a folder of their own, says yes to every question, and looks at what comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(CHECKOUT / "examples", folder / "examples")
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "NEARPOINT_DATA": str(folder / "one"),
            "AWS_CONFIG_FILE": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def types(self, command: str, *, at: str | None = None) -> str:
        """What it printed; `at`: in the shell of that place."""
        there = [*NEARPOINT, "shell", at, "--"] if at else []
        terminal, keyboard = os.openpty()
        try:
            os.write(terminal, b"y\n" * 4)
            ran = subprocess.run(
                [*there, "bash", "-c", command], stdin=keyboard, capture_output=True, text=True, check=False,
                timeout=110, cwd=self.folder, env=self.environment,
            )  # fmt: skip
        finally:
            os.close(terminal)
            os.close(keyboard)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr


def test_from_the_laptop(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    (up,), (deploy,), (verify,), (again,), (delete, down) = (section(number) for number in range(1, 6))
    try:
        reader.types(up)
        assert "Url " in reader.types(deploy)
        assert "wrong" not in reader.types(verify)
        function = tmp_path / "examples" / "active-active" / "function" / "index.py"
        function.write_text(function.read_text() + "\nCHANGED = True\n")
        assert re.search(r"SignerVersion .*replaced", reader.types(again))
        assert "is gone" not in reader.types(delete)
    finally:
        reader.types(down)


def test_the_last_part_works_where_something_takes_the_place_of_aws(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    # The local world has no CloudWatch.
    template = tmp_path / "examples" / "active-active" / "template.yaml"
    template.write_text(template.read_text().replace('    OnAws:\n      Monitoring: "yes"\n', ""))
    plan, deploy, verify, delete = section(6)
    reader.types("nearpoint up --detach --regions us-east-1,eu-west-1 --edges FRA")
    try:
        world = json.loads((tmp_path / "one" / "world.json").read_text())
        keys = f"aws_access_key_id = {world['access_key_id']}\naws_secret_access_key = {world['secret_key']}\n"
        (tmp_path / "config").write_text(f"[profile me]\n{keys}")
        assert "would make the bucket hello-123456789012-eu-west-1" in reader.types(plan, at="us-east-1")
        done = reader.types(deploy, at="us-east-1")
        assert "As arn:aws:iam::123456789012:root, this makes on AWS:" in done
        assert [each.name for each in (tmp_path / "state" / "nearpoint" / "aws").iterdir()] == ["hello.123456789012"]
        assert "Carry out these changes?" in done
        seen = reader.types(verify, at="us-east-1")
        assert "here gets a bucket's marker" in " ".join(seen.split())
        assert "not tried: it was not asked for" in " ".join(seen.split())
        assert "this removes for good" in reader.types(delete, at="us-east-1")
        assert list((tmp_path / "state" / "nearpoint" / "aws").iterdir()) == []
    finally:
        reader.types("nearpoint down")
