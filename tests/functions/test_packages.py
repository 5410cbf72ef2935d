"""Unpacking: hostile archives, and many at once."""

from __future__ import annotations

import hashlib
import io
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nearpoint.functions.packages import PackageError, PackageLimits, boot_root, own_folder, unpack

Fill = Callable[[zipfile.ZipFile], None]


def archive(folder: Path, fill: Fill) -> tuple[Path, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        fill(zipped)
    return store(folder, buffer.getvalue())


def store(folder: Path, content: bytes) -> tuple[Path, str]:
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"{sha256}.zip"
    path.write_bytes(content)
    return path, sha256


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def link(name: str, target: str) -> Fill:
    return lambda zipped: zipped.writestr(entry(name, stat.S_IFLNK | 0o777), target)


def both(*fills: Fill) -> Fill:
    def fill(zipped: zipfile.ZipFile) -> None:
        for one in fills:
            one(zipped)

    return fill


def file(name: str, content: str = "x") -> Fill:
    return lambda zipped: zipped.writestr(name, content)


def test_files_folders_modes_and_links(tmp_path):
    def fill(zipped: zipfile.ZipFile) -> None:
        zipped.writestr("app.py", "x = 1")
        zipped.writestr("lib/deep/data.txt", "y")
        zipped.writestr(entry("empty/", stat.S_IFDIR | 0o755), "")
        zipped.writestr(entry("bin/run", stat.S_IFREG | 0o4755), "#!/bin/sh")
        link("lib/current", "deep/data.txt")(zipped)

    (tmp_path / "root").mkdir()
    folder = unpack(*archive(tmp_path, fill), tmp_path / "root")
    assert (folder / "app.py").read_text() == "x = 1"
    assert (folder / "lib/current").read_text() == "y"
    assert (folder / "empty").is_dir()
    assert stat.S_IMODE((folder / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "app.py").stat().st_mode) == 0o644
    assert [path.name for path in (tmp_path / "root").iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (file("../escape.py"), "no name for a file"),
        (file("/absolute.py"), "no name for a file"),
        (file("a/../../escape.py"), "no name for a file"),
        (file("a\\..\\escape.py"), "no name for a file"),
        (link("out", "/etc/passwd"), "leads out"),
        (link("out", "../../escape"), "leads out"),
        (both(file("a/b/c/x"), link("a/b/c/up", "../../.."), link("out", "a/b/c/up/..")), "leads out"),
        (both(link("dir", "/tmp"), file("dir/escape.py")), "cannot be unpacked"),
        (lambda zipped: zipped.writestr(entry("pipe", stat.S_IFIFO | 0o644), ""), "neither a file"),
        (both(file("a"), file("a/b")), "cannot be unpacked"),
        (file("big", "0" * 3_000_000), "too large unpacked"),
        (both(*(file(f"f{number}") for number in range(40))), "40 files, 30 allowed"),
        (link("long", "x" * 5000), "too long"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, fill, words):
    root = tmp_path / "in" / "root"
    root.mkdir(parents=True)
    limits = PackageLimits(unpacked_bytes_max=1_000_000, files_max=30)
    with pytest.raises(PackageError, match=words):
        unpack(*archive(tmp_path, fill), root, limits)
    assert list(root.iterdir()) == []
    assert not list(tmp_path.rglob("*escape*"))


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04" + b"\x7f" * 64])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path, sha256 = store(tmp_path, content)
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(PackageError):
        unpack(path, sha256, root)
    assert list(root.iterdir()) == []


def test_the_digest_has_to_be_right(tmp_path):
    path, _ = archive(tmp_path, file("app.py"))
    with pytest.raises(PackageError, match="digest"):
        unpack(path, "0" * 64, tmp_path)
    with pytest.raises(PackageError, match="SHA-256"):
        unpack(path, "../" + "0" * 61, tmp_path)
    with pytest.raises(PackageError, match="not there"):
        unpack(tmp_path / "gone.zip", "0" * 64, tmp_path)


def test_a_package_may_not_be_too_large(tmp_path):
    path, sha256 = archive(tmp_path, file("app.py", "x" * 100))
    with pytest.raises(PackageError, match="more than 50 bytes"):
        unpack(path, sha256, tmp_path, PackageLimits(package_bytes_max=50))


def test_many_at_once_get_the_same_folder(tmp_path):
    path, sha256 = archive(tmp_path, both(*(file(f"module_{number}.py", "x" * 1000) for number in range(200))))
    root = tmp_path / "root"
    root.mkdir()
    results: list[Path | Exception] = []

    def work() -> None:
        try:
            results.append(unpack(path, sha256, root))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [root / sha256] * 8
    assert len(list((root / sha256).iterdir())) == 200
    assert len(list(root.iterdir())) == 1


def test_the_cache_of_an_earlier_boot_is_removed(tmp_path):
    old = tmp_path / "cache" / "boot-earlier" / "x"
    old.mkdir(parents=True)
    root = boot_root(tmp_path / "cache")
    assert root == boot_root(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [root]


def test_what_a_killed_process_left_is_removed(tmp_path):
    root = boot_root(tmp_path)
    mine = own_folder(root, "scratch")
    (root / ".scratch-999999999.abc" / "x").mkdir(parents=True)
    (root / f".{'0' * 64}-999999998.abc").mkdir()
    boot_root(tmp_path)
    assert list(root.iterdir()) == [mine]
