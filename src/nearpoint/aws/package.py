"""`nearpoint package`: from a function's folder to a zip that Lambda@Edge takes.

The function that Nearpoint ships is pure Python with its own signer, so its package needs no wheel and no compiler.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nearpoint
from nearpoint import signing
from nearpoint.aws import wheels
from nearpoint.aws.archive import EVENTS, File, build, check_sizes
from nearpoint.aws.errors import DeployError, PackageError
from nearpoint.aws.handler import check_handler, check_node_handler, check_sources, imported_names
from nearpoint.aws.native import check_native

HANDLER = "index.handler"
RUNTIME = "python3.13"
# CloudFront Developer Guide, "Supported runtimes": Python runtimes that Lambda@Edge takes for new functions.
RUNTIMES = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
# Those for JavaScript. Their functions are packed as they lie, node_modules and all: npm has put it right already.
NODE_RUNTIMES = ("nodejs20.x", "nodejs22.x", "nodejs24.x")
FILES_MAX = 20_000
_LEFT_OUT = frozenset(("__pycache__", "node_modules", "requirements.txt"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A checked package. `notes` are what may surprise at the edge but does not forbid it."""

    data: bytes
    files: tuple[str, ...]
    unzipped_bytes: int
    handler: str
    runtime: str
    event: str
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """In hex: the name it is uploaded under."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def code_sha256(self) -> str:
        """In base64, as Lambda gives it and `AWS::Lambda::Version` takes it."""
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()


def shipped_function() -> Path:
    """The folder of the function that comes with Nearpoint: in the installed package, or in the checkout."""
    package = Path(nearpoint.__file__).parent
    for folder in (package / "examples", package.parents[1] / "examples"):
        if (folder / "active-active" / "function" / "index.py").is_file():
            return folder / "active-active" / "function"
    raise DeployError("The function is not installed with this package; name a folder.")


def package(folder: Path, *, handler: str = HANDLER, runtime: str = RUNTIME, event: str = "origin-request") -> Package:
    """The package of a function's folder. Raises PackageError with everything that is wrong with it."""
    if runtime not in RUNTIMES + NODE_RUNTIMES:
        raise PackageError([f"Lambda@Edge does not run {runtime}; it runs {', '.join(RUNTIMES + NODE_RUNTIMES)}."])
    if event not in EVENTS:
        raise PackageError([f"There is no event type {event}; there are {', '.join(EVENTS)}."])
    if runtime in NODE_RUNTIMES:
        files = _own_files(folder, _LEFT_OUT - {"node_modules"})
        problems = check_node_handler(files, handler) + check_native({n: f.data for n, f in files.items()}, runtime)
        return _packed(files, problems, [], handler=handler, runtime=runtime, event=event)
    own = _own_files(folder)
    sources = {name: file.data for name, file in own.items()}
    findings = check_sources(sources)
    problems = [*check_handler(sources, handler), *findings.problems]
    notes = [*findings.notes]
    files = dict(own)
    if _uses_the_signer(sources, problems):
        files |= signer_files()
    requirements = folder / "requirements.txt"
    if requirements.is_file() and not problems:
        for each in wheels.unpinned(requirements.read_text()):
            notes.append(f"requirements.txt: {each} names no version, so the next package may be another one.")
        libraries = wheels.fetch(requirements, runtime)
        notes += [
            f"{name}: the function's own file hides the library's." for name in sorted(libraries.keys() & own.keys())
        ]
        files = libraries | files
    problems += check_native({name: file.data for name, file in files.items()}, runtime)
    return _packed(files, problems, notes, handler=handler, runtime=runtime, event=event)


def _packed(
    files: Mapping[str, File], problems: list[str], notes: list[str], *, handler: str, runtime: str, event: str
) -> Package:
    """The package, unless something is wrong with it or it is too large. Raises PackageError."""
    if problems:
        raise PackageError(list(dict.fromkeys(problems)))
    data = build(files)
    unzipped_bytes = sum(len(file.data) for file in files.values())
    problems = check_sizes(len(data), unzipped_bytes, event)
    if problems:
        largest = sorted(files, key=lambda name: -len(files[name].data))[:3]
        said = ", ".join(f"{name} ({len(files[name].data):,} bytes)" for name in largest)
        raise PackageError([*problems, f"The largest files: {said}."])
    return Package(
        data=data,
        files=tuple(sorted(files)),
        unzipped_bytes=unzipped_bytes,
        handler=handler,
        runtime=runtime,
        event=event,
        notes=tuple(notes),
    )


def signer_files() -> dict[str, File]:
    """`nearpoint.signing`, as it goes into a package."""
    files = {"nearpoint/__init__.py": File(data=Path(nearpoint.__file__).read_bytes())}
    for path in sorted(Path(signing.__file__).parent.glob("*.py")):
        files[f"nearpoint/signing/{path.name}"] = File(data=path.read_bytes())
    return files


def _uses_the_signer(sources: Mapping[str, bytes], problems: list[str]) -> bool:
    if any(name.startswith("nearpoint/") or name == "nearpoint.py" for name in sources):
        return False  # it brings its own
    uses = False
    for path, source in sources.items():
        for name in imported_names(source) if path.endswith(".py") else ():
            if name == "nearpoint.signing" or name.startswith("nearpoint.signing."):
                uses = True
            elif re.match(r"nearpoint\.", name):
                problems.append(f"{path}: {name} is not for functions; only nearpoint.signing goes into a package.")
    return uses


def _own_files(folder: Path, left_out: frozenset[str] = _LEFT_OUT) -> dict[str, File]:
    if not folder.is_dir():
        raise DeployError(f"{folder} is no folder.")
    files: dict[str, File] = {}
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part in left_out or part.startswith(".") for part in parts) or path.suffix in (".pyc", ".whl"):
            continue
        if not path.resolve().is_relative_to(inside):
            raise PackageError([f"{path} leads out of the folder; copy what it leads to."])
        if path.is_dir():
            continue
        if not path.is_file():
            raise PackageError([f"{path} is no ordinary file."])
        if len(files) >= FILES_MAX:
            raise PackageError([f"{folder} holds more than {FILES_MAX} files; is it the function's folder?"])
        files["/".join(parts)] = File(data=path.read_bytes(), executable=bool(path.stat().st_mode & 0o111))
    if not files:
        raise PackageError([f"{folder} is empty."])
    return files
