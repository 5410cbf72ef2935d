"""A CloudFormation stack, moved by change sets and followed by its events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import advice_on, code_of, explained, is_denied

TAG = "nearpoint:deployed"  # says that this stack is deploy's, and not somebody's whom delete would surprise
CHANGE_SET_PREFIX = "nearpoint-"
INLINE_BYTES_MAX = 51_200  # CloudFormation quotas: a template in the call itself
UPDATABLE = (
    "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE",
)  # fmt: skip
REVIEW = "REVIEW_IN_PROGRESS"
LOOKS_FAILED_MAX = 10  # in a row; each has been tried again by botocore already
_NOT_CARRIED_OUT = ("AVAILABLE", "UNAVAILABLE", "OBSOLETE")
# CloudFormation, and the AWS CLI with it, tells "nothing to do" by these words alone.
_NO_CHANGES = ("The submitted information didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a stack. `at` in Unix seconds."""

    id: str
    at: float
    logical_id: str
    type: str
    status: str
    reason: str

    @property
    def failed(self) -> bool:
        return self.status.endswith("_FAILED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change set does to one resource; words of CloudFormation's `ResourceChange`."""

    action: str
    logical_id: str
    type: str
    replacement: str | None
    scope: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """A change set that is ready. `creates`: the stack; `changes` may be empty where only outputs change."""

    id: str
    creates: bool
    changes: tuple[Change, ...]


Listener = Callable[[Event], None]


class Stack:
    """One stack in us-east-1, where all that CloudFront uses has to be. Methods raise DeployError."""

    def __init__(self, clients: Clients, name: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._clients = clients
        self._sleep = sleep
        self._seen: set[str] = set()

    def _call(self, operation: str, **params: Any) -> Any:
        try:
            return getattr(self._clients.client("cloudformation", HOME_REGION), operation)(**params)
        except (ClientError, BotoCoreError) as error:
            raise explained(error) from error

    def describe(self, stack_id: str | None = None) -> dict[str, Any] | None:
        """CloudFormation's description; None where there is no such stack. Deleted stacks are found by id."""
        try:
            client = self._clients.client("cloudformation", HOME_REGION)
            found: list[dict[str, Any]] = client.describe_stacks(StackName=stack_id or self.name)["Stacks"]
        except ClientError as error:
            if code_of(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise explained(error) from error
        except BotoCoreError as error:
            raise explained(error) from error
        return found[0] if found else None

    def outputs(self) -> dict[str, str]:
        """The outputs by key."""
        stack = self.describe() or {}
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}

    # ------------------------------------------------------------------ waiting

    def catch_up(self) -> None:
        """Take all events up to now as known."""
        for event in self._events():
            self._seen.add(event.id)

    def follow(self, listener: Listener, stack_id: str | None = None) -> dict[str, Any]:
        """Tell every new event until the stack rests; answers its description then, `DELETE_COMPLETE` for one that is
        gone."""
        name, failures, pauses_s = stack_id or self.name, 0, self._clients.pauses_s()
        while True:
            try:
                stack = self.describe(name)
                events = self._events(name) if stack is not None else []
                failures = 0
            except DeployError as error:
                failures += 1  # the stack goes on whether it is looked at or not
                if not error.passing or failures > LOOKS_FAILED_MAX:
                    raise
                self._sleep(self._clients.pause_s_max * failures)
                continue
            for event in reversed(events):
                if event.id not in self._seen:
                    self._seen.add(event.id)
                    listener(event)
            if stack is None:
                return {"StackStatus": "DELETE_COMPLETE"}
            if not stack["StackStatus"].endswith("_IN_PROGRESS") or stack["StackStatus"] == REVIEW:
                return stack
            self._sleep(next(pauses_s))

    def _events(self, name: str | None = None) -> list[Event]:
        """Newest first, back to the first that is known."""
        found: list[Event] = []
        token: dict[str, str] = {}
        try:
            client = self._clients.client("cloudformation", HOME_REGION)
            while True:
                page = client.describe_stack_events(StackName=name or self.name, **token)
                for each in page["StackEvents"]:
                    if each["EventId"] in self._seen:
                        return found
                    found.append(
                        Event(
                            id=each["EventId"],
                            at=each["Timestamp"].timestamp(),
                            logical_id=each.get("LogicalResourceId", ""),
                            type=each.get("ResourceType", ""),
                            status=each.get("ResourceStatus", ""),
                            reason=each.get("ResourceStatusReason", ""),
                        )
                    )
                if not page.get("NextToken"):
                    return found
                token = {"NextToken": page["NextToken"]}
        except ClientError as error:
            if code_of(error) == "ValidationError":  # no such stack (any more)
                return found
            raise explained(error) from error
        except BotoCoreError as error:
            raise explained(error) from error

    # ------------------------------------------------------------------ changing

    def check_movable(self, stack: Mapping[str, Any] | None) -> None:
        """Raises DeployError, with the way out, where the stack at rest can neither be created nor updated."""
        status = None if stack is None else str(stack["StackStatus"])
        if status is None or status in (REVIEW, *UPDATABLE):
            return
        name = self.name
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
            advice = f"Remove it with `nearpoint delete --stack {name}`, then deploy again."
        elif status in ("UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED"):
            command = f"aws cloudformation continue-update-rollback --region {HOME_REGION} --stack-name {name}"
            if self._clients.target == "local":
                command = f"nearpoint shell {HOME_REGION} -- {command}"
            advice = f"Run `{command}`, then deploy again."
        else:
            advice = "CloudFormation neither creates nor updates it in that state."
        raise DeployError(f"The stack {name} is in {status}. {advice}")

    def check_template(self, text: str, name: object) -> None:
        """Raises DeployError where CloudFormation does not take the text for a template; one that is too long for its
        call is looked at with the change set."""
        if len(text.encode()) > INLINE_BYTES_MAX:
            return
        try:
            self._clients.client("cloudformation", HOME_REGION).validate_template(TemplateBody=text)
        except ClientError as error:
            if code_of(error) == "ValidationError":
                raise DeployError(f"{name}: {error.response['Error'].get('Message', '').rstrip('.')}.") from None
            if not is_denied(error):  # who may not ask beforehand hears it with the change set
                raise explained(error) from error
        except BotoCoreError as error:
            raise explained(error) from error

    def tidy(self) -> None:
        """Take away the change sets that interrupted deployments left, and the empty stack where there is no other."""
        stack = self.describe()
        if stack is None:
            return
        listed = self._call("list_change_sets", StackName=self.name)["Summaries"]
        waiting = [each for each in listed if each.get("ExecutionStatus") in _NOT_CARRIED_OUT]
        ours = [each for each in waiting if each["ChangeSetName"].startswith(CHANGE_SET_PREFIX)]
        for each in ours:
            self._call("delete_change_set", ChangeSetName=each["ChangeSetId"])
        if stack["StackStatus"] == REVIEW and ours == waiting:
            self._call("delete_stack", StackName=self.name)
            for pause_s in self._clients.pauses_s():
                if self.describe() is None:
                    return
                self._sleep(pause_s)

    def propose(
        self,
        template: Mapping[str, str],
        parameters: Mapping[str, str],
        capabilities: Sequence[str],
        change_set: str,
    ) -> ChangeSet | None:
        """Make a change set; None where there is nothing to change. `template` is TemplateBody or TemplateURL."""
        stack = self.describe()
        creates = stack is None or stack["StackStatus"] == REVIEW
        made = self._call(
            "create_change_set",
            StackName=self.name,
            ChangeSetName=CHANGE_SET_PREFIX + change_set,
            ChangeSetType="CREATE" if creates else "UPDATE",
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=list(capabilities),
            Tags=[{"Key": TAG, "Value": "yes"}],
            **template,
        )
        for pause_s in self._clients.pauses_s():
            shown = self._call("describe_change_set", ChangeSetName=made["Id"])
            if shown["Status"] == "CREATE_COMPLETE":
                break
            if shown["Status"] == "FAILED":
                reason = shown.get("StatusReason", "")
                self._call("delete_change_set", ChangeSetName=made["Id"])
                if reason.startswith(_NO_CHANGES):
                    return None
                raise DeployError(f"CloudFormation refuses the template: {reason}")
            self._sleep(pause_s)
        changes = [*shown.get("Changes", ())]
        while shown.get("NextToken"):
            shown = self._call("describe_change_set", ChangeSetName=made["Id"], NextToken=shown["NextToken"])
            changes += shown.get("Changes", ())
        return ChangeSet(
            id=made["Id"],
            creates=creates,
            changes=tuple(_change(each["ResourceChange"]) for each in changes if "ResourceChange" in each),
        )

    def discard(self, change_set: ChangeSet) -> None:
        """Forget a change set, and the empty stack that was made to hold it."""
        self._call("delete_change_set", ChangeSetName=change_set.id)
        if change_set.creates:
            stack = self.describe()
            if stack is not None and stack["StackStatus"] == REVIEW:
                self._call("delete_stack", StackName=self.name)

    def execute(
        self, change_set: ChangeSet, listener: Listener, place_of: Callable[[str], str] = lambda logical_id: ""
    ) -> dict[str, Any]:
        """Carry it out and follow it to its end. Raises DeployError with the first failure, and where `place_of` says
        that its resource stands in the template."""
        self.catch_up()
        self._call("execute_change_set", ChangeSetName=change_set.id)
        failures: list[Event] = []

        def listen(event: Event) -> None:
            if event.failed and "cancelled" not in event.reason.lower():
                failures.append(event)
            listener(event)

        stack = self.follow(listen)
        if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            ended = f"The stack {self.name} ended in {stack['StackStatus']}"
            if not failures:
                raise DeployError(f"{ended}. {stack.get('StackStatusReason', '')}")
            first = failures[0]
            place = place_of(first.logical_id)
            at = f"{place}: " if place else ""
            why = " ".join(filter(None, (first.reason, advice_on(first.reason))))
            raise DeployError(f"{ended}. First failed: {at}{first.logical_id} ({first.type}): {why}")
        return stack

    def delete(self, listener: Listener) -> dict[str, Any]:
        """Delete the stack and follow that to its end; answers the description at rest."""
        stack = self.describe()
        if stack is None:
            return {"StackStatus": "DELETE_COMPLETE"}
        self.catch_up()
        if stack["StackStatus"] != "DELETE_IN_PROGRESS":
            self._call("delete_stack", StackName=self.name)
        return self.follow(listener, stack["StackId"])

    def resources(self, stack_id: str | None = None) -> list[dict[str, str]]:
        """Logical id, type, physical id, status and reason of each resource."""
        page = self._call("describe_stack_resources", StackName=stack_id or self.name)
        return [
            {
                "logical_id": each["LogicalResourceId"],
                "type": each["ResourceType"],
                "physical_id": each.get("PhysicalResourceId", ""),
                "status": each["ResourceStatus"],
                "reason": each.get("ResourceStatusReason", ""),
            }
            for each in page["StackResources"]
        ]


def _change(change: Mapping[str, Any]) -> Change:
    return Change(
        action=change["Action"],
        logical_id=change["LogicalResourceId"],
        type=change["ResourceType"],
        replacement=change.get("Replacement"),
        scope=tuple(change.get("Scope", ())),
    )
