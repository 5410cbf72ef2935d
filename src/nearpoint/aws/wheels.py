"""The libraries that a function's requirements.txt names, as files that run on Lambda: wheels for Amazon Linux on
x86_64, which is what Lambda@Edge has, whatever machine this is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nearpoint.aws.archive import File
from nearpoint.aws.errors import DeployError, PackageError

INSTALL_TIMEOUT_S = 300
# Amazon Linux 2023 has glibc 2.34. pip takes each tag by its name alone, so the older ones are named too.
PLATFORMS = (
    "manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64",
    "manylinux_2_12_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64",
)  # fmt: skip
# What installers write for themselves; it differs from one to the other and is of no use in a package.
_INSTALLERS_OWN = frozenset(("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"))


def unpinned(requirements: str) -> list[str]:
    """The requirements that name no one version: with them, tomorrow's package may be another."""
    found = []
    for line in requirements.replace("\\\n", " ").splitlines():
        text = re.split(r"\s#|^#", line)[0].strip()
        if text and not text.startswith("-") and not re.search(r"===?\s*[0-9]|@\s*\S+", text.split(";")[0]):
            found.append(text)
    return found


def _installer() -> list[str]:
    """The command that installs: this Python's pip, uv, or a pip on the path."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    uv = Path(sys.executable).with_name("uv")
    found = str(uv) if os.access(uv, os.X_OK) else shutil.which("uv")
    if found is not None:
        return [found, "pip", "install"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is not None:
        return [pip, "install"]
    raise DeployError("requirements.txt needs pip or uv to fetch its libraries, and neither is on the PATH.")


def _command(requirements: Path, target: Path, python_version: str) -> list[str]:
    installer = _installer()
    common = [*installer, "--quiet", "--target", str(target), "--python-version", python_version]
    if "uv" in Path(installer[0]).name:
        common += ["--python-platform", "x86_64-manylinux_2_34", "--only-binary", ":all:"]
    else:
        common += ["--disable-pip-version-check", "--no-compile", "--only-binary=:all:", "--implementation", "cp"]
        common += [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    return [*common, "--requirement", str(requirements.resolve())]


def fetch(requirements: Path, runtime: str) -> dict[str, File]:
    """The files of everything required, by their path in the package. `runtime` is Lambda's name, `python3.13`.

    Raises PackageError with the installer's own words.
    """
    with tempfile.TemporaryDirectory(prefix="nearpoint-package-") as folder:
        target = Path(folder) / "libraries"
        command = _command(requirements, target, runtime.removeprefix("python"))
        try:
            ran = subprocess.run(
                command, capture_output=True, check=False, timeout=INSTALL_TIMEOUT_S, cwd=requirements.parent
            )
        except subprocess.TimeoutExpired:
            raise DeployError(
                f"Fetching the libraries of {requirements} took longer than {INSTALL_TIMEOUT_S} s."
            ) from None
        if ran.returncode != 0:
            said = ran.stderr.decode(errors="replace").strip().splitlines()
            words = " ".join(said[-3:])[-600:] or f"{command[0]} ended with {ran.returncode}"
            raise PackageError(
                [f"{requirements.name}: no wheels for {runtime} on Linux x86_64 (Lambda@Edge has no other): {words}"]
            )
        return _collected(target)


def _collected(target: Path) -> dict[str, File]:
    files: dict[str, File] = {}
    for path in sorted(target.rglob("*")) if target.is_dir() else ():
        name = path.relative_to(target).as_posix()
        parts = name.split("/")
        if path.is_dir() or parts[0] in ("bin", ".lock") or "__pycache__" in parts or path.suffix == ".pyc":
            continue  # programs for this machine, and what Python writes by itself
        if parts[0].endswith(".dist-info") and parts[-1] in _INSTALLERS_OWN:
            continue
        files[name] = File(data=path.read_bytes(), executable=".so" in path.suffixes)
    return files
