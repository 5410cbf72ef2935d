from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services import functions, packages, roles
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import Distribution, Function

REGION = "us-east-1"


@pytest.fixture
async def role_arn(context: Context, trust: dict[str, Any]) -> str:
    return (await roles.create_role(context, name="edge", trust=trust)).arn


@pytest.fixture
def make(context: Context, role_arn: str, package: bytes) -> Callable[..., Any]:
    def create(**changes: Any) -> Any:
        given = {"name": "sign", "region": REGION, "package": package, "runtime": "python3.13"}
        return functions.create_function(
            context, **(given | {"handler": "index.handler", "role_arn": role_arn, "timeout_s": 5} | changes)
        )

    return create


async def test_create_keeps_the_package(context: Context, make: Callable[..., Any], package: bytes) -> None:
    function = await make()
    assert function.arn == "arn:aws:lambda:us-east-1:123456789012:function:sign"
    assert packages.path_of(context.packages_dir, function.code_sha256).read_bytes() == package
    assert [path.suffix for path in context.packages_dir.iterdir()] == [".zip"]
    for reference in ("sign", function.arn, "123456789012:function:sign", "sign:$LATEST"):
        assert functions.find(context, REGION, reference) == function
    with pytest.raises(AwsError, match="ResourceNotFoundException"):
        functions.find(context, "eu-west-1", "sign")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "a b"}, "ValidationException"),
        ({"name": "sign"}, "ResourceConflictException"),
        ({"runtime": "nodejs22.x"}, "InvalidParameterValueException"),
        ({"runtime": "python3"}, "InvalidParameterValueException"),
        ({"handler": "handler"}, "ValidationException"),
        ({"handler": "a b.c"}, "ValidationException"),
        ({"handler": "module."}, "ValidationException"),
        ({"memory_mb": 64}, "ValidationException"),
        ({"timeout_s": 901}, "ValidationException"),
        ({"environment": {"AWS_REGION": "x"}}, "InvalidParameterValueException"),
        ({"environment": {"A1": "x" * 5000}}, "InvalidParameterValueException"),
        ({"architectures": ["mips"]}, "ValidationException"),
        ({"role_arn": "arn:aws:iam::123456789012:role/none"}, "InvalidParameterValueException"),
        ({"package": b"no zip"}, "InvalidParameterValueException"),
    ],
)
async def test_refusals(context: Context, make: Callable[..., Any], changes: dict[str, Any], code: str) -> None:
    await make()
    with pytest.raises(AwsError) as refused:
        await make(**({"name": "other"} | changes))
    assert refused.value.code == code
    assert len(context.state.list(Function)) == 1
    assert len(list(context.packages_dir.iterdir())) == 1


def _archive(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in entries:
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return data.getvalue()


def test_a_zip_bomb_is_refused() -> None:
    block = b"\0" * (16 * 1024 * 1024)
    bomb = _archive([(zipfile.ZipInfo(f"{number}.bin"), block) for number in range(17)])
    assert len(bomb) < 1_000_000
    with pytest.raises(AwsError, match="262144000"):
        packages.check_package(bomb)


def test_entries_that_share_bytes_are_refused() -> None:
    content = bytes(range(256)) * 40
    plain = _archive([(zipfile.ZipInfo("a.py"), content)])
    end = plain.rindex(b"PK\x05\x06")
    directory = plain[plain.rindex(b"PK\x01\x02") : end]
    count = 50
    tail = bytearray(plain[end:])
    struct.pack_into("<HHI", tail, 8, count, count, len(directory) * count)
    overlapping = plain[: end - len(directory)] + directory * count + bytes(tail)
    with zipfile.ZipFile(io.BytesIO(overlapping)) as archive:
        assert len(archive.infolist()) == count
    with pytest.raises(AwsError, match="overlap"):
        packages.check_package(overlapping)


@pytest.mark.parametrize("name", ["../x.py", "/etc/passwd", "a/../../x", "..\\x.py", "C:/x.py"])
def test_entries_outside_the_folder_are_refused(name: str) -> None:
    with pytest.raises(AwsError, match="outside"):
        packages.check_package(_archive([(zipfile.ZipInfo(name), b"x")]))


def test_a_device_is_refused() -> None:
    info = zipfile.ZipInfo("null")
    info.external_attr = 0o020666 << 16
    with pytest.raises(AwsError, match="no file"):
        packages.check_package(_archive([(info, b"")]))


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_a_torn_zip_is_refused(package: bytes, cut: int) -> None:
    with pytest.raises(AwsError, match="unzip"):
        packages.check_package(package[:cut])


async def test_versions(context: Context, make: Callable[..., Any], zipped: Callable[[dict[str, str]], bytes]) -> None:
    await make()
    first = await functions.publish_version(context, REGION, "sign")
    assert first.arn.endswith(":function:sign:1")
    assert await functions.publish_version(context, REGION, "sign") == first

    await functions.update_code(context, REGION, "sign", zipped({"index.py": "x = 1"}))
    second = await functions.publish_version(context, REGION, "sign", description="two")
    assert (second.version, second.description) == ("2", "two")
    assert [each.version for each in functions.list_versions(context.state, "sign")] == ["$LATEST", "1", "2"]
    assert packages.path_of(context.packages_dir, first.code_sha256).exists()
    with pytest.raises(AwsError, match="CodeSHA256"):
        await functions.publish_version(context, REGION, "sign", code_sha256_base64="AAAA")

    await functions.delete_function(context, REGION, "sign", "1")
    assert not packages.path_of(context.packages_dir, first.code_sha256).exists()
    await functions.delete_function(context, REGION, "sign")
    assert context.state.list(Function) == []
    assert list(context.packages_dir.iterdir()) == []

    await make()
    assert (await functions.publish_version(context, REGION, "sign")).version == "3", "a number is never given again"


async def test_a_version_at_the_edge_is_not_deleted(context: Context, make: Callable[..., Any]) -> None:
    await make()
    version = await functions.publish_version(context, REGION, "sign")
    association = {"EventType": "origin-request", "LambdaFunctionARN": version.arn}
    distribution = Distribution(
        distribution_id="E1",
        account_id="123456789012",
        domain="d.cloudfront.net",
        config={"DefaultCacheBehavior": {"LambdaFunctionAssociations": [association]}},
        etag="E",
        created_at=0,
        last_modified=0,
    )
    await context.state.put(distribution)
    for qualifier in (None, "1"):
        with pytest.raises(AwsError, match="replicated function"):
            await functions.delete_function(context, REGION, "sign", qualifier)
    await context.state.delete(distribution)
    await functions.delete_function(context, REGION, "sign")


async def test_latest_alone_cannot_be_deleted(context: Context, make: Callable[..., Any]) -> None:
    await make()
    with pytest.raises(AwsError, match="LATEST"):
        await functions.delete_function(context, REGION, "sign:$LATEST")


def test_a_sweep_leaves_the_packages_that_are_in_use(context: Context, package: bytes) -> None:
    folder = context.packages_dir
    torn = packages.write_package(folder, package, "1")
    kept = packages.digest(package)
    packages.keep_package(packages.write_package(folder, package, "2"), folder, kept)
    packages.keep_package(packages.write_package(folder, b"other", "3"), folder, packages.digest(b"other"))
    assert len(packages.sweep(folder, {kept})) == 2
    assert not torn.exists()
    assert packages.path_of(folder, kept).exists()
