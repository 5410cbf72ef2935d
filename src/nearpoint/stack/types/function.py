"""`AWS::Lambda::Function` (Ref is the name) and `AWS::Lambda::Version` (Ref is the ARN with the version)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import TAGS, Fields, Items, Table, Text, Whole
from nearpoint.stack.services import functions
from nearpoint.stack.services.functions import ARCHITECTURES, DESCRIPTION_MAX, MEMORY_MB, TIMEOUT_S
from nearpoint.stack.services.packages import ZIPPED_BYTES_MAX
from nearpoint.stack.types.base import Immediate, Means, Naming
from nearpoint.state.resources import Function as FunctionResource

INLINE_BYTES_MAX = 4 * 1024 * 1024
EPOCH = (1980, 1, 1, 0, 0, 0)


def inline_package(text: str) -> bytes:
    """`Code.ZipFile`: the source as `index.py` in a zip that is the same whenever it is made."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("index.py", EPOCH)
        info.external_attr = 0o100644 << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, text)
    return data.getvalue()


async def _package(code: Mapping[str, Any], means: Means) -> bytes:
    if "ZipFile" in code:
        if any(name in code for name in ("S3Bucket", "S3Key", "S3ObjectVersion")):
            raise AwsError(
                "InvalidRequest", "Please do not provide other FunctionCode parameters when providing a ZipFile."
            )
        return inline_package(code["ZipFile"])
    if "S3Bucket" not in code or "S3Key" not in code:
        raise AwsError("InvalidRequest", "Please provide a source for function code.")
    try:
        return await means.reader.get(code["S3Bucket"], code["S3Key"], code.get("S3ObjectVersion"), ZIPPED_BYTES_MAX)
    except AwsError as error:
        raise AwsError(
            "InvalidParameterValueException",
            f"Error occurred while GetObject. S3 Error Code: {error.code}. S3 Error Message: {error.message}",
        ) from None


def _settings(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "runtime": properties["Runtime"],
        "handler": properties["Handler"],
        "role_arn": properties["Role"],
        "memory_mb": properties.get("MemorySize", 128),
        "timeout_s": properties.get("Timeout", 3),
        "description": properties.get("Description", ""),
        "environment": properties.get("Environment", {}).get("Variables", {}),
    }


class Function(Immediate):
    name = "AWS::Lambda::Function"
    properties = Fields(
        {
            "Architectures": Items(Text(ARCHITECTURES), 1, 1),
            "Code": Fields(
                {
                    "S3Bucket": Text(length_max=63),
                    "S3Key": Text(length_max=1024),
                    "S3ObjectVersion": Text(length_max=1024),
                    "ZipFile": Text(length_max=INLINE_BYTES_MAX),
                },
                (),
                ("ImageUri", "S3ObjectStorageMode", "SourceKMSKeyArn"),
            ),
            "Description": Text(length_max=DESCRIPTION_MAX),
            "Environment": Fields({"Variables": Table(Text())}),
            "FunctionName": Text(length_min=1, length_max=140),
            "Handler": Text(length_max=128),
            "MemorySize": Whole(*MEMORY_MB),
            "PackageType": Text(("Zip",)),
            "Role": Text(length_max=512),
            "Runtime": Text(length_max=64),
            "Tags": TAGS,
            "Timeout": Whole(*TIMEOUT_S),
        },
        ("Code", "Handler", "Role", "Runtime"),
        (
            "CodeSigningConfigArn", "DeadLetterConfig", "EphemeralStorage", "FileSystemConfigs", "ImageConfig",
            "KmsKeyArn", "Layers", "LoggingConfig", "RecursiveLoop", "ReservedConcurrentExecutions",
            "RuntimeManagementConfig", "SnapStart", "TracingConfig", "VpcConfig",
        ),
    )  # fmt: skip
    attributes = frozenset(("Arn",))
    replacing = frozenset(("FunctionName", "PackageType"))

    def _find(self, physical_id: str, means: Means) -> FunctionResource | None:
        function = means.services.state.get(FunctionResource, f"{physical_id}:{functions.LATEST}")
        return function if function is not None and function.region == means.region else None

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["FunctionName"]) if "FunctionName" in properties else naming.of_length(64)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        function = self._find(physical_id, means)
        return None if function is None else Made(ref=function.name, attributes={"Arn": function.arn})

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        function = await functions.create_function(
            means.services,
            name=physical_id,
            region=means.region,
            package=await _package(properties["Code"], means),
            architectures=properties.get("Architectures", ("x86_64",)),
            **_settings(properties),
        )
        return Made(ref=function.name, attributes={"Arn": function.arn})

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        architectures = tuple(properties.get("Architectures", ("x86_64",)))
        function = await functions.update_configuration(
            means.services, means.region, physical_id, architectures=architectures, **_settings(properties)
        )
        if before["Code"] != properties["Code"]:
            package = await _package(properties["Code"], means)
            await functions.update_code(means.services, means.region, physical_id, package)
        return Made(ref=function.name, attributes={"Arn": function.arn})

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self._find(physical_id, means) is not None:
            await functions.delete_function(means.services, means.region, physical_id)


class Version(Immediate):
    name = "AWS::Lambda::Version"
    properties = Fields(
        {
            "CodeSha256": Text(length_max=64),
            "Description": Text(length_max=DESCRIPTION_MAX),
            "FunctionName": Text(length_min=1, length_max=170),
        },
        ("FunctionName",),
        ("FunctionScalingConfig", "ProvisionedConcurrencyConfig", "RuntimePolicy"),
    )
    attributes = frozenset(("FunctionArn", "Version"))
    replacing = frozenset(("CodeSha256", "Description", "FunctionName"))

    def _find(self, arn: str, means: Means) -> FunctionResource | None:
        name, version = functions.split_reference(arn)
        found = means.services.state.get(FunctionResource, f"{name}:{version}")
        return found if found is not None and found.arn == arn else None

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        # The number that publishing will give; `create` says which one it was.
        name, _ = functions.split_reference(properties["FunctionName"])
        number = functions.next_version(means.services.state, name)
        return f"{functions.arn_of(means.services, means.region, name)}:{number}"

    def _made(self, version: FunctionResource) -> Made:
        return Made(ref=version.arn, attributes={"Version": version.version, "FunctionArn": version.arn})

    def exists(self, physical_id: str, means: Means) -> Made | None:
        version = self._find(physical_id, means)
        return None if version is None else self._made(version)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        before = functions.newest_version(
            means.services.state, functions.split_reference(properties["FunctionName"])[0]
        )
        version = await functions.publish_version(
            means.services,
            means.region,
            properties["FunctionName"],
            code_sha256_base64=properties.get("CodeSha256"),
            description=properties.get("Description"),
        )
        if before is not None and version.version == before.version:
            raise AwsError(
                "AlreadyExists",
                f"A version for this Lambda function exists ( {version.version} ). Modify the function to create a new "
                "version.",
                status=409,
            )
        return self._made(version)

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        raise AwsError("InvalidRequest", f"{self.name} cannot be changed in place")

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        version = self._find(physical_id, means)
        if version is not None:
            await functions.delete_function(means.services, means.region, version.name, version.version)
