"""Lambda: the functions and versions there are (Lambda API Reference). Functions are made by CloudFormation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.lambda_code import location
from nearpoint.awsapi.paging import page
from nearpoint.awsproto import AwsError
from nearpoint.stack.services import functions
from nearpoint.state.resources import Function

SERVICE = "lambda"
PAGE_DEFAULT, PAGE_MAX = 50, 10_000


def _configuration(function: Function, *, qualified: bool = False) -> dict[str, Any]:
    modified = datetime.fromtimestamp(function.last_modified, UTC)
    arn = function.arn
    if qualified and function.version == functions.LATEST:
        arn = f"{arn}:{functions.LATEST}"
    return {
        "FunctionName": function.name,
        "FunctionArn": arn,
        "Runtime": function.runtime,
        "Role": function.role_arn,
        "Handler": function.handler,
        "CodeSize": function.code_size_bytes,
        "Description": function.description,
        "Timeout": function.timeout_s,
        "MemorySize": function.memory_mb,
        "LastModified": modified.strftime("%Y-%m-%dT%H:%M:%S.") + f"{modified.microsecond // 1000:03}+0000",
        "CodeSha256": functions.code_sha256_base64_of(function),
        "Version": function.version,
        "Environment": {"Variables": function.environment} if function.environment else None,
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": list(function.architectures),
        "EphemeralStorage": {"Size": 512},
    }


def _find(call: Call) -> tuple[Function, bool]:
    name, qualifier = call.params["FunctionName"], call.params.get("Qualifier")
    found = functions.find(call.ctx.domain, call.region, name, qualifier)
    return found, functions.split_reference(name, qualifier)[1] != functions.LATEST or qualifier is not None


async def get_function(call: Call) -> Mapping[str, Any]:
    function, qualified = _find(call)
    return {
        "Configuration": _configuration(function, qualified=qualified),
        "Code": {"RepositoryType": "S3", "Location": location(call, function)},
    }


async def get_function_configuration(call: Call) -> Mapping[str, Any]:
    function, qualified = _find(call)
    return _configuration(function, qualified=qualified)


def _page(call: Call, items: list[Function]) -> tuple[list[Function], str | None]:
    count = call.params.get("MaxItems", PAGE_DEFAULT)
    if not 1 <= count <= PAGE_MAX:
        raise AwsError(
            "ValidationException",
            f"1 validation error detected: Value '{count}' at 'maxItems' failed to satisfy constraint: Member must "
            f"have value less than or equal to {PAGE_MAX}",
        )

    def key(function: Function) -> str:
        number = 0 if function.version == functions.LATEST else int(function.version)
        return f"{function.name}:{number:019}"

    items.sort(key=key)
    return page(items, key, call.params.get("Marker"), count, error_code="InvalidParameterValueException")


async def list_functions(call: Call) -> Mapping[str, Any]:
    items = functions.list_functions(call.ctx.state, call.region)
    every = call.params.get("FunctionVersion") == "ALL"
    if every:
        items = [version for one in items for version in functions.list_versions(call.ctx.state, one.name)]
    found, token = _page(call, items)
    return {"Functions": [_configuration(one, qualified=every) for one in found], "NextMarker": token}


async def list_versions_by_function(call: Call) -> Mapping[str, Any]:
    name, _ = functions.split_reference(call.params["FunctionName"])
    functions.find(call.ctx.domain, call.region, name)
    found, token = _page(call, functions.list_versions(call.ctx.state, name))
    return {"Versions": [_configuration(one, qualified=True) for one in found], "NextMarker": token}


HANDLERS: dict[str, Handler] = {
    "GetFunction": get_function,
    "GetFunctionConfiguration": get_function_configuration,
    "ListFunctions": list_functions,
    "ListVersionsByFunction": list_versions_by_function,
}


def _arn(call: Call) -> str:
    name, version = functions.split_reference(call.params["FunctionName"], call.params.get("Qualifier"))
    arn = functions.arn_of(call.ctx.domain, call.region, name)
    return arn if version == functions.LATEST else f"{arn}:{version}"


RESOURCES = {name: _arn for name in HANDLERS if name != "ListFunctions"}
