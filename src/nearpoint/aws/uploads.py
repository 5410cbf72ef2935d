"""What CloudFormation reads from the deployment's own bucket: packages, and a template too long for its call."""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.buckets import Bucket
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.explain import code_of, explained
from nearpoint.aws.package import Package
from nearpoint.aws.stacks import INLINE_BYTES_MAX

TEMPLATE_KEY = "nearpoint/template.yaml"


def key_of(package: Package) -> str:
    """Where a package lies: its digest says what it is."""
    return f"functions/{package.sha256}.zip"


def put_package(clients: Clients, bucket: str, package: Package, step: Callable[[str], None]) -> None:
    """Upload the package unless it is there; `step` hears of it. Raises DeployError."""
    s3, key, data = clients.client("s3", HOME_REGION), key_of(package), package.data
    try:
        try:
            if s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(data):
                return
        except ClientError as error:
            if code_of(error) not in ("404", "NoSuchKey", "NotFound"):
                raise
        step(f"package of {len(data):,} bytes to {bucket}")
        s3.put_object(Bucket=bucket, Key=key, Body=data)
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error


def template_of(clients: Clients, text: str, home: Bucket) -> dict[str, str]:
    """The template as CloudFormation's calls take it: itself, or the address it was uploaded to. Raises DeployError."""
    body = text.encode()
    if len(body) <= INLINE_BYTES_MAX:
        return {"TemplateBody": text}
    try:
        clients.client("s3", home.region).put_object(Bucket=home.name, Key=TEMPLATE_KEY, Body=body)
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error
    return {"TemplateURL": f"https://{home.name}.s3.{home.region}.amazonaws.com/{TEMPLATE_KEY}"}
