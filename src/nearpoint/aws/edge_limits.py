"""What CloudFront refuses of a function's configuration. Pure.

CloudFront Developer Guide, "Restrictions on Lambda@Edge" and "Quotas on Lambda@Edge".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.aws.package import RUNTIMES

_NOT_AT_THE_EDGE = {
    "Environment": "environment variables",
    "Layers": "layers",
    "VpcConfig": "a VPC",
    "DeadLetterConfig": "a dead-letter queue",
    "FileSystemConfigs": "file systems",
    "ReservedConcurrentExecutions": "reserved concurrency",
    "ImageConfig": "container images",
    "KmsKeyArn": "a KMS key of your own",
}
TIMEOUT_S_MAX = {"viewer": 5, "origin": 30}
VIEWER_MEMORY_MB = 128


def check_function(name: str, properties: Mapping[str, Any], event: str) -> list[str]:
    """What is wrong with an `AWS::Lambda::Function` that runs at that event; values that are functions of the template
    are left to CloudFormation."""
    problems = [
        f"{name}: Lambda@Edge has no {what}; remove {key}."
        for key, what in _NOT_AT_THE_EDGE.items()
        if properties.get(key) not in (None, "", [], {})
    ]
    side = event.partition("-")[0]
    timeout_s = _number(properties.get("Timeout", 3))
    if timeout_s is not None and timeout_s > TIMEOUT_S_MAX[side]:
        problems.append(f"{name}: at {event}, Timeout may be {TIMEOUT_S_MAX[side]} s at most; it is {timeout_s}.")
    memory_mb = _number(properties.get("MemorySize", VIEWER_MEMORY_MB))
    if side == "viewer" and memory_mb is not None and memory_mb > VIEWER_MEMORY_MB:
        problems.append(f"{name}: at {event}, MemorySize may be {VIEWER_MEMORY_MB} MB at most; it is {memory_mb}.")
    if properties.get("Architectures") not in (None, [], ["x86_64"]):
        problems.append(f"{name}: Lambda@Edge runs on x86_64 only; remove Architectures.")
    if properties.get("PackageType", "Zip") != "Zip":
        problems.append(f"{name}: Lambda@Edge takes zip packages only; remove PackageType.")
    storage_mb = _number((properties.get("EphemeralStorage") or {}).get("Size", 512))
    if storage_mb is not None and storage_mb > 512:
        problems.append(f"{name}: at the edge, EphemeralStorage is 512 MB; it is {storage_mb}.")
    runtime = properties.get("Runtime")
    if isinstance(runtime, str) and runtime.startswith("python") and runtime not in RUNTIMES:
        problems.append(f"{name}: Lambda@Edge does not run {runtime}; it runs {', '.join(RUNTIMES)}.")
    return problems


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
