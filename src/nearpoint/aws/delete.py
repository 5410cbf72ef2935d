"""`nearpoint delete`: all that `deploy` made, the users first: the stack, its data buckets, its own bucket last.

The record in the deployment's bucket goes with that bucket, so an interrupted deletion is taken up where it stopped.
Functions at the edge outlive their distribution for hours: CloudFront removes their replicas in its own time, and until
then Lambda refuses to delete them (CloudFront Developer Guide, "Delete Lambda@Edge functions and replicas").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nearpoint.aws import alarms, buckets, record
from nearpoint.aws.buckets import Bucket
from nearpoint.aws.clients import Clients
from nearpoint.aws.deploy import Reporter
from nearpoint.aws.errors import DeployError
from nearpoint.aws.stacks import REVIEW, TAG, Stack

REPLICAS_POLL_S = 300.0
# What has to wait for the replicas, and what it needs meanwhile.
_AT_THE_EDGE = frozenset(("AWS::Lambda::Function", "AWS::Lambda::Version", "AWS::IAM::Role"))
COUNT_MAX = 1000
_REMOVABLE = ("ours", "blank")  # blank: a bucket of the record that nobody got around to tag; it is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """`left` names what is still there, `advice` how to finish; both empty when all is gone."""

    stack: str
    removed: tuple[str, ...]
    left: tuple[str, ...]
    kept: tuple[str, ...]
    advice: str = ""

    @property
    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "stack": self.stack,
            "removed": list(self.removed),
            "left": list(self.left),
            "kept": list(self.kept),
            "advice": self.advice,
        }


def delete(
    clients: Clients,
    name: str,
    reporter: Reporter,
    *,
    keep_buckets: bool = False,
    wait: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Deleted:
    """Remove the deployment; `wait` stays until the replicas at the edge are gone. Raises DeployError; `refused` where
    somebody said no, or the stack is not deploy's."""
    clients.identity()
    known = record.read(clients, name)
    stack = Stack(clients, name)
    found = stack.describe()
    home = record.home_bucket(clients, name)
    if known is None and found is None and buckets.look(clients, home, name) != "ours":
        reporter.step(f"there is no deployment {name} in account {clients.identity().account_id}")
        clients.accounts.forget(name, clients.identity().account_id)
        return Deleted(stack=name, removed=(), left=(), kept=())
    # A stack under review holds nothing, nor does it have its tags yet.
    if (
        found is not None
        and found["StackStatus"] != REVIEW
        and TAG not in {tag["Key"] for tag in found.get("Tags", ())}
    ):
        raise DeployError(
            f"The stack {name} was not made by `nearpoint deploy`; remove it with `aws cloudformation delete-stack`.",
            refused=True,
        )
    data = [Bucket(name=each.name, region=each.region) for each in (known.data if known else ()) if each.made]
    kept = [f"{each.name} (AWS::S3::Bucket)" for each in (known.data if known else ()) if not each.made]
    ours = [bucket for bucket in data if buckets.look(clients, bucket, name) in _REMOVABLE]
    if keep_buckets:
        kept += [f"{bucket.name} (AWS::S3::Bucket)" for bucket in ours]
    _ask(clients, name, found is not None, [] if keep_buckets else ours, kept, reporter)
    removed: list[str] = []
    if found is not None:
        left = _remove_stack(stack, reporter, wait=wait, sleep=sleep)
        if left:
            advice = (
                "CloudFront removes the functions' replicas from its edges within hours; then run "
                f"`nearpoint delete --stack {name}` again (or leave it running with --wait)."
            )
            left += [f"bucket {bucket.name}" for bucket in ([home] if keep_buckets else [*ours, home])]
            return Deleted(stack=name, removed=(), left=tuple(left), kept=tuple(kept), advice=advice)
        kept += _retained(stack, found["StackId"])
        removed.append(f"stack {name}")
    if known is not None and known.alarms:
        removed += alarms.unwatch(clients, name, known.data, reporter.step)
    for bucket in [] if keep_buckets else ours:
        _remove_bucket(clients, bucket, reporter)
        removed.append(f"bucket {bucket.name}")
    if buckets.look(clients, home, name) in _REMOVABLE:
        _remove_bucket(clients, home, reporter)
        removed.append(f"bucket {home.name}")
    clients.accounts.forget(name, clients.identity().account_id)
    return Deleted(stack=name, removed=tuple(removed), left=(), kept=tuple(kept))


def _ask(
    clients: Clients, name: str, stack_there: bool, doomed: list[Bucket], kept: list[str], reporter: Reporter
) -> None:
    identity = clients.identity()
    lines = [f"In account {identity.account_id}, this removes for good:"]
    lines += [f"  stack {name} in us-east-1"] if stack_there else []
    for bucket in doomed:
        holds = buckets.count(clients, bucket, COUNT_MAX)
        many = f"{COUNT_MAX} or more" if holds >= COUNT_MAX else str(holds)
        lines.append(f"  bucket {bucket.name} in {bucket.region} and the {many} object versions in it")
    lines += [f"It keeps {', '.join(kept)}."] if kept else []
    if not reporter.confirm("\n".join([*lines, "Go on?"])):
        raise DeployError("Nothing was removed.", refused=True)


def _remove_stack(stack: Stack, reporter: Reporter, *, wait: bool, sleep: Callable[[float], None]) -> list[str]:
    """What is left of the stack because of the replicas: nothing, most often. Raises DeployError for other reasons."""
    while True:
        reporter.step(f"delete the stack {stack.name}")
        after = stack.delete(reporter.event)
        if after["StackStatus"] == "DELETE_COMPLETE":
            return []
        stuck = [
            each
            for each in stack.resources(after["StackId"])
            if each["status"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED")
        ]
        failed = [each for each in stuck if each["status"] == "DELETE_FAILED"]
        replicas = [each for each in failed if "replica" in each["reason"].lower()]
        others = [each for each in failed if each not in replicas and each["type"] not in _AT_THE_EDGE]
        if others or not replicas:
            first = (others or failed or [{"logical_id": stack.name, "type": "", "reason": after["StackStatus"]}])[0]
            raise DeployError(
                f"The stack {stack.name} is in {after['StackStatus']}: {first['logical_id']} ({first['type']}) can't "
                f"be deleted: {first['reason']} Put that right and run the same command again."
            )
        if not wait:
            return [f"{each['logical_id']} ({each['type']}) {each['physical_id']}".strip() for each in stuck]
        reporter.step(f"replicas are still at the edge; trying again in {REPLICAS_POLL_S / 60:.0f} minutes")
        sleep(REPLICAS_POLL_S)


def _retained(stack: Stack, stack_id: str) -> list[str]:
    """What the template says shall outlive its stack."""
    return [
        f"{each['physical_id']} ({each['type']})"
        for each in stack.resources(stack_id)
        if each["status"] == "DELETE_SKIPPED" and each["physical_id"]
    ]


def _remove_bucket(clients: Clients, bucket: Bucket, reporter: Reporter) -> None:
    reporter.step(f"empty and delete the bucket {bucket.name} in {bucket.region}")
    buckets.remove(clients, bucket, lambda done: reporter.step(f"{done} object versions are gone"))
