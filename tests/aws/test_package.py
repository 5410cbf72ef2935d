"""Packages: the same bytes for the same files, what Lambda@Edge would refuse, and the wheels of its platform."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nearpoint.aws.archive import File, build
from nearpoint.aws.errors import DeployError, PackageError
from nearpoint.aws.package import package, shipped_function
from nearpoint.aws.wheels import unpinned

Folder = Callable[..., Path]
FINE = "def handler(event, context):\n    return event\n"
ELF = b"\x7fELF\x02\x01\x01" + bytes(11)


def test_the_shipped_function_is_small_and_the_same_every_time(tmp_path: Path) -> None:
    made = package(shipped_function())
    assert len(made.data) < 100_000
    assert {"index.py", "nearpoint/__init__.py", "nearpoint/signing/sign.py"} <= set(made.files)
    copy = tmp_path / "copy"
    shutil.copytree(shipped_function(), copy)
    for path in copy.rglob("*"):
        os.utime(path, (time.time() - 10**6,) * 2)
        path.chmod(0o600) if path.is_file() else path.chmod(0o700)
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "index.cpython-311.pyc").write_bytes(b"")
    assert package(copy).data == made.data
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}


EVENT = {
    "Records": [
        {
            "cf": {
                "config": {"requestId": "id", "eventType": "origin-request"},
                "request": {
                    "method": "GET", "uri": "/a", "querystring": "", "headers": {},
                    "origin": {"custom": {"domainName": "x.accesspoint.s3-global.amazonaws.com", "path": ""}},
                },
            }
        }
    ]
}  # fmt: skip
# Nothing but the standard library and the package: -I, -S.
PROGRAM = (
    "import sys; sys.path.insert(0, '.'); import index, json\n"
    f"print(json.dumps(index.handler(json.loads({json.dumps(EVENT)!r}), None)['headers']))"
)
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}


def interpreters() -> list[str]:
    """Every Python of Lambda@Edge that this machine has, the one that runs this among them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for minor in range(9, 15):
        candidates = [*sorted(pyenv.glob(f"3.{minor}.*/bin/python")), shutil.which(f"python3.{minor}")]
        for candidate in filter(None, candidates):  # a shim of a version manager may lead nowhere
            command = [candidate, "-I", "-S", "-c", "import sys; print(sys.version_info[1])"]
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if ran.stdout.strip() == str(minor):
                found[minor] = str(candidate)
                break
    return list(({sys.version_info[1]: sys.executable} | found).values())


@pytest.mark.parametrize("example", ["active-active", "origin-failover"])
def test_on_every_python_of_the_edge(example: str, tmp_path: Path) -> None:
    made = package(shipped_function().parents[1] / example / "function")
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        archive.extractall(tmp_path)
    for path in tmp_path.rglob("*.py"):
        for minor in range(9, 15):
            ast.parse(path.read_text(), feature_version=(3, minor))
    for interpreter in interpreters():
        ran = subprocess.run(
            [interpreter, "-I", "-S", "-B", "-c", PROGRAM],
            cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, f"{interpreter}: {ran.stderr}"
        headers = json.loads(ran.stdout)
        assert headers["authorization"][0]["value"].startswith("AWS4-ECDSA-P256-SHA256 Credential=AKID/")


def test_javascript_is_packed_as_it_lies(folder: Folder) -> None:
    files = {"index.mjs": "export const handler = async (event) => event", "node_modules/a/index.js": "1"}
    assert package(folder(files), runtime="nodejs22.x").files == tuple(files)
    with pytest.raises(PackageError, match=r"no other\.js, \.mjs or \.cjs"):
        package(folder(files), runtime="nodejs22.x", handler="other.handler")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def other(event, context): ...", "defines no handler"),
        ("def handler(event): ...", "two arguments"),
        ("def handler(event, context, more): ...", "two arguments"),
        ("def handler(event, context, *, more): ...", "two arguments"),
        ("async def handler(event, context): ...", "is async"),
        ("def handler(event, context:\n", "index.py:1: not valid Python"),
        ("import os\nT = os.environ['TABLE']\n" + FINE, "index.py:2: Lambda@Edge has no environment variables; TABLE"),
        ("import nearpoint.edge.cache\n" + FINE, "only nearpoint.signing goes into a package"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_made(folder: Folder, source: str, words: str) -> None:
    with pytest.raises(PackageError, match=words):
        package(folder({"index.py": source}))


@pytest.mark.parametrize(
    "source",
    [
        FINE,
        "def handler(*arguments): ...",
        "def handler(event, context=None): ...",
        "handler = lambda event, context: event",
        "from other import handler",
        "try:\n    from fast import handler\nexcept ImportError:\n    def handler(event, context): ...\n",
        "import os\nR = os.environ['AWS_REGION']\n" + FINE,
    ],
)
def test_every_way_to_have_a_handler(folder: Folder, source: str) -> None:
    assert package(folder({"index.py": source})).notes == ()


def test_handlers_in_packages_and_elsewhere(folder: Folder) -> None:
    files = {"app/__init__.py": FINE, "app/edge.py": FINE}
    assert package(folder(files), handler="app.handler").files == ("app/__init__.py", "app/edge.py")
    package(folder(files), handler="app.edge.handler")
    for handler, words in (("index.handler", "no index.py"), ("handler", "MODULE.FUNCTION"), ("a.b-c", "MODULE")):
        with pytest.raises(PackageError, match=words):
            package(folder(files), handler=handler)


def test_a_default_of_an_environment_variable_is_only_noted(folder: Folder) -> None:
    made = package(folder({"index.py": "import os\nT = os.environ.get('TABLE', 'x')\n" + FINE}))
    assert made.notes == (
        "index.py:2: Lambda@Edge has no environment variables; TABLE will not be there, its default is used.",
    )


def test_the_signer_goes_along_where_it_is_used(folder: Folder) -> None:
    assert package(folder({"index.py": FINE})).files == ("index.py",)
    made = package(folder({"index.py": "from nearpoint import signing\n" + FINE}))
    assert "nearpoint/signing/__init__.py" in made.files
    own = package(folder({"index.py": "from nearpoint import signing\n" + FINE, "nearpoint/signing.py": ""}))
    assert own.files == ("index.py", "nearpoint/signing.py")


def test_what_stays_at_home(folder: Folder, tmp_path: Path) -> None:
    function = folder({"index.py": FINE, ".git/config": "x", "a/__pycache__/a.pyc": "x", ".env": "SECRET=1"})
    assert package(function).files == ("index.py",)
    (tmp_path / "secret").write_text("x")
    (function / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(PackageError, match="leads out of the folder"):
        package(function)
    with pytest.raises(DeployError, match="no folder"):
        package(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PackageError, match="is empty"):
        package(tmp_path / "empty")


def test_sizes_by_event(folder: Folder) -> None:
    function = folder({"index.py": FINE, "model.bin": os.urandom(1_100_000)})
    assert package(function).unzipped_bytes > 1_100_000
    with pytest.raises(PackageError, match=r"(?s)viewer-request may have 1,048,576.*model.bin"):
        package(function, event="viewer-request")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("fast.pyd", b"MZ", "not for Linux"),
        ("fast.abi3.so", b"\xcf\xfa\xed\xfe" + bytes(20), "not built for Linux on x86_64"),
        ("fast.abi3.so", ELF + b"\xb7\x00", "not built for Linux on x86_64"),
        ("fast.cpython-311-x86_64-linux-gnu.so", ELF + b"\x3e\x00", "built for Python 3.11, not for python3.13"),
    ],
)
def test_native_code_for_something_else(folder: Folder, name: str, data: bytes, words: str) -> None:
    with pytest.raises(PackageError, match=words):
        package(folder({"index.py": FINE, name: data}))


def _wheel(path: Path, tag: str, files: dict[str, bytes]) -> None:
    name, version = path.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    content = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{each},,\n" for each in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in (content | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(each, data)


def test_wheels_of_lambdas_platform(folder: Folder) -> None:
    tag = "cp313-cp313-manylinux_2_28_x86_64"
    function = folder({"index.py": FINE, "requirements.txt": f"./fast-1.0-{tag}.whl\n"})
    library = "fast/core.cpython-313-x86_64-linux-gnu.so"
    _wheel(function / f"fast-1.0-{tag}.whl", tag, {"fast/__init__.py": b"", library: ELF + b"\x3e\x00"})
    made = package(function)
    assert {library, "fast-1.0.dist-info/METADATA", "fast-1.0.dist-info/WHEEL"} <= set(made.files)
    assert not [name for name in made.files if name.endswith(("RECORD", "INSTALLER", "requirements.txt"))]
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        assert archive.getinfo(library).external_attr >> 16 == 0o100755
    assert package(function).data == made.data
    with pytest.raises(PackageError, match=r"no wheels for python3\.12 on Linux x86_64"):
        package(function, runtime="python3.12")
    with pytest.raises(PackageError, match=r"does not run python3\.8"):
        package(function, runtime="python3.8")


def test_requirements_without_a_version_are_named() -> None:
    text = "a==1.0\n# b\nc>=2  # why\nd @ https://x/d.whl\n-r other.txt\n\n"
    text += "e==1 ; python_version>'3'\nf==2 \\\n --hash=sha256:0\ng"
    assert unpinned(text) == ["c>=2", "g"]


def test_the_order_of_the_files_is_of_no_matter() -> None:
    files = {"b": File(data=b"2"), "a": File(data=b"1", executable=True)}
    assert build(files) == build(dict(reversed(files.items())))
