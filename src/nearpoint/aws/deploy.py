"""`nearpoint deploy`: buckets in their regions, the package, the stack; in an order that can be taken up anywhere.

Every step looks before it acts, so running it again changes nothing, and whatever interrupts it, the next run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from nearpoint.aws import alarms, buckets, record, replication, uploads
from nearpoint.aws.application import Application
from nearpoint.aws.bucket_settings import ACCOUNT, REPLICATION, TAGS, filled
from nearpoint.aws.buckets import Bucket, bucket_name
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.package import Package, package
from nearpoint.aws.record import DataBucket, Record
from nearpoint.aws.regions import check_regions
from nearpoint.aws.stacks import INLINE_BYTES_MAX, REVIEW, ChangeSet, Event, Stack


class Reporter(Protocol):
    """Who watches, and says yes or no."""

    def step(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def changes(self, change_set: ChangeSet) -> None: ...

    def event(self, event: Event) -> None: ...

    def confirm(self, question: str) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for. `parameters` are the user's own and win over what deploy fills in."""

    application: Application
    stack: str
    regions: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    plan_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What became of it. `changed`: whether the stack was."""

    stack: str
    status: str
    changed: bool
    outputs: Mapping[str, str]
    data: tuple[DataBucket, ...]
    packages: tuple[Package, ...]
    change_set: ChangeSet | None

    @property
    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        changes = () if self.change_set is None else self.change_set.changes
        return {
            "stack": self.stack,
            "status": self.status,
            "changed": self.changed,
            "outputs": dict(self.outputs),
            "buckets": [
                {"name": each.name, "region": each.region, "parameter": each.parameter, "made": each.made}
                for each in self.data
            ],
            "packages": [{"sha256": each.sha256, "bytes": len(each.data)} for each in self.packages],
            "changes": [
                {"action": each.action, "resource": each.logical_id, "type": each.type, "replacement": each.replacement}
                for each in changes
            ],
        }


def deploy(clients: Clients, request: Request, reporter: Reporter) -> Deployed:
    """Do it. Raises DeployError; `refused` where somebody said no."""
    application = request.application
    for note in check_regions(request.regions):
        reporter.note(note)
    _check_parameters(request)
    built = _packages(application, reporter)
    identity = clients.identity()
    known = record.read(clients, request.stack)
    data = _data_buckets(clients, request, known)
    home = record.home_bucket(clients, request.stack)
    parameters = _parameters(clients, request, data, home, built)
    settings = filled(application.bucket_settings, {**parameters, ACCOUNT: identity.account_id})
    reporter.step(f"account {identity.account_id}, stack {request.stack} in us-east-1")
    stack = Stack(clients, request.stack)
    found = _at_rest(stack, reporter)
    stack.check_movable(found)
    stack.check_template(application.text, application.path)
    for each in data:
        if not each.made:
            buckets.check_given(clients, each.name, each.region)
    to_make = [each for each in (home, *_made(data)) if buckets.look(clients, each, request.stack) != "ours"]
    work = _Work(
        clients=clients,
        request=request,
        stack=stack,
        home=home,
        data=tuple(data),
        parameters=parameters,
        settings=settings,
        packages=tuple(built),
        to_make=tuple(to_make),
        before=msgspec.structs.replace(known or Record(stack=request.stack), account=identity.account_id),
        reporter=reporter,
    )
    if request.plan_only:
        return work.plan()
    if clients.target == "aws" and (to_make or found is None):
        _ask(identity.arn, request, to_make, reporter)
    try:
        return work.carry_out()
    except DeployError as error:
        if not work.there:
            raise
        raise error.with_rest(
            f"So far there is: {', '.join(work.there)}. `nearpoint delete --stack {request.stack}` removes it."
        ) from error


def _at_rest(stack: Stack, reporter: Reporter) -> dict[str, Any] | None:
    """The stack once nothing moves it; None where there is none."""
    found = stack.describe()
    if found is None or not found["StackStatus"].endswith("_IN_PROGRESS") or found["StackStatus"] == REVIEW:
        return found
    reporter.step(f"the stack is in {found['StackStatus']}: waiting for it to rest")
    stack.catch_up()
    found = stack.follow(reporter.event)
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Everything that is decided before anything is made. `before`: what earlier runs have written down; `there` hears
    what this run has made."""

    clients: Clients
    request: Request
    stack: Stack
    home: Bucket
    data: tuple[DataBucket, ...]
    parameters: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    packages: tuple[Package, ...]
    to_make: tuple[Bucket, ...]
    before: Record
    reporter: Reporter
    there: list[str] = field(default_factory=list)

    def carry_out(self) -> Deployed:
        """Buckets, packages, stack, replication, alarms."""
        application = self.request.application
        self.clients.accounts.add(self.request.stack, self.clients.identity().account_id)
        if self.home in self.to_make:
            self._ensure(self.home, {})
        tags = {each.parameter: tuple(self.settings.get(each.parameter, {}).get(TAGS, ())) for each in self.data}
        known = {name: tuple(dict.fromkeys((*self.before.tags.get(name, ()), *keys))) for name, keys in tags.items()}
        now = self._write_down(self.before, data=self.data, tags=known)
        for each in self.data:
            if each.made:
                bucket = Bucket(name=each.name, region=each.region)
                self._ensure(bucket, self.settings.get(each.parameter, {}), known[each.parameter])
        for function, made in zip(application.functions, self.packages, strict=True):
            uploads.put_package(self.clients, self.parameters[function.bucket_parameter], made, self.reporter.step)
        self.stack.tidy()
        template = uploads.template_of(self.clients, application.text, self.home)
        change_set = self.stack.propose(template, self.parameters, application.capabilities, _unique())
        if change_set is None:
            self.reporter.step("the stack is as the template says")
        else:
            _agree(self.stack, change_set, self.reporter, ask=self.clients.target == "aws")
            if change_set.creates:
                self.there.append(f"stack {self.request.stack}")
            self.stack.execute(change_set, self.reporter.event, application.place_of)
        outputs = self.stack.outputs()
        self._replicate(outputs, self._write_down(now, tags=tags))
        status = (self.stack.describe() or {"StackStatus": "DELETE_COMPLETE"})["StackStatus"]
        return self._deployed(status, outputs, change_set, changed=change_set is not None)

    def _ensure(self, bucket: Bucket, settings: Mapping[str, Any], tags_before: Sequence[str] = ()) -> None:
        if bucket in self.to_make:
            self.reporter.step(f"bucket {bucket.name} in {bucket.region}")
        if buckets.ensure(self.clients, bucket, self.request.stack, settings, tags_before):
            self.there.append(f"bucket {bucket.name}")

    def _replicate(self, outputs: Mapping[str, str], now: Record) -> Record:
        """Rules and alarms as the outputs ask for; written down before they are made, and taken away where the template
        wants them no longer."""
        made = [each for each in self.data if each.made]
        if replication.ROLE_OUTPUT in outputs and len(self.data) > 1:
            self.reporter.step("replication between the buckets")
            now = self._write_down(now, replicated=True)
            own = {name: each[REPLICATION] for name, each in self.settings.items() if REPLICATION in each}
            replication.replicate(self.clients, outputs[replication.ROLE_OUTPUT], made, own)
        elif now.replicated:
            self.reporter.step("the buckets copy to each other no longer")
            replication.stop(self.clients, made)
            now = self._write_down(now, replicated=False)
        if now.replicated and alarms.TOPIC_OUTPUT in outputs and self.clients.target == "aws":
            now = self._write_down(now, alarms=True)
            email = self.parameters.get(alarms.EMAIL_PARAMETER, "")
            alarms.watch(self.clients, self.request.stack, self.data, email, self.reporter.step)
        elif now.alarms:
            alarms.unwatch(self.clients, self.request.stack, self.data, self.reporter.step)
            now = self._write_down(now, alarms=False)
        return now

    def _write_down(self, now: Record, **changes: Any) -> Record:
        now = msgspec.structs.replace(now, **changes)
        record.write(self.clients, now)
        return now

    def plan(self) -> Deployed:
        """Show what would be done, and leave nothing behind."""
        for bucket in self.to_make:
            self.reporter.step(f"would make the bucket {bucket.name} in {bucket.region}")
        for made in self.packages:
            self.reporter.step(f"would upload a package of {len(made.data):,} bytes unless it is there")
        template = self.request.application.text
        if len(template.encode()) > INLINE_BYTES_MAX:
            raise DeployError(
                f"The template has more than {INLINE_BYTES_MAX} bytes, so CloudFormation reads it from a bucket only; "
                "deploy shows its changes before it makes them."
            )
        capabilities = self.request.application.capabilities
        change_set = self.stack.propose({"TemplateBody": template}, self.parameters, capabilities, _unique())
        if change_set is None:
            self.reporter.step("the stack is as the template says")
        else:
            try:
                self.reporter.changes(change_set)
            finally:
                self.stack.discard(change_set)
        found = self.stack.describe()
        status = "NOT_THERE" if found is None else found["StackStatus"]
        return self._deployed(status, {} if found is None else self.stack.outputs(), change_set, changed=False)

    def _deployed(
        self, status: str, outputs: Mapping[str, str], change_set: ChangeSet | None, *, changed: bool
    ) -> Deployed:
        return Deployed(
            stack=self.request.stack,
            status=status,
            changed=changed,
            outputs=outputs,
            data=self.data,
            packages=self.packages,
            change_set=change_set,
        )


def _check_parameters(request: Request) -> None:
    application = request.application
    unknown = sorted(set(request.parameters) - set(application.defaults))
    if unknown:
        raise DeployError(
            f"{application.path} declares no parameter {', '.join(unknown)}; it declares "
            f"{', '.join(sorted(application.defaults)) or 'none'}.",
            usage=True,
        )
    if len(request.regions) != len(application.data_buckets):
        raise DeployError(
            f"{application.path} has data buckets for {len(application.data_buckets)} regions "
            f"({', '.join(application.data_buckets) or 'Metadata.Nearpoint.DataBuckets names none'}), and --regions "
            f"names {len(request.regions)}.",
            usage=True,
        )
    region_of = dict(zip(application.data_buckets, request.regions, strict=True))
    for name, parameter in application.bound_to:
        region = region_of.get(parameter, HOME_REGION)
        if region != HOME_REGION:
            raise DeployError(
                f"{application.path}: {name} belongs to the bucket of {parameter} in {region}, and a stack in "
                f"{HOME_REGION} can't reach it there. Leave it out: deploy gives its buckets a policy of their own."
            )


def _packages(application: Application, reporter: Reporter) -> list[Package]:
    packages = []
    for function in application.functions:
        built = package(function.folder, handler=function.handler, runtime=function.runtime, event=function.event)
        for note in built.notes:
            reporter.note(note)
        packages.append(built)
    return packages


def _data_buckets(clients: Clients, request: Request, known: Record | None) -> list[DataBucket]:
    """The user's own, and else one of deploy's in each region."""
    found = []
    for parameter, region in zip(request.application.data_buckets, request.regions, strict=True):
        given = request.parameters.get(parameter)
        name = given or bucket_name(request.stack, clients.identity().account_id, region)
        found.append(DataBucket(name=name, region=region, parameter=parameter, made=given is None))
    moved = [each for each in (known.data if known else ()) if each.made and each.name not in {b.name for b in found}]
    if moved:
        raise DeployError(
            f"The stack {request.stack} is deployed over {', '.join(each.region for each in known.data)}; "  # type: ignore[union-attr]
            "an access point's buckets can't be changed. Deploy the new regions under another --stack."
        )
    return found


def _made(data: Sequence[DataBucket]) -> list[Bucket]:
    return [Bucket(name=each.name, region=each.region) for each in data if each.made]


def _parameters(
    clients: Clients, request: Request, data: Sequence[DataBucket], home: Bucket, built: Sequence[Package]
) -> dict[str, str]:
    application = request.application
    known = {each.parameter: each.name for each in data}
    known |= {
        f"{each.parameter}Region": each.region for each in data if f"{each.parameter}Region" in application.defaults
    }
    for function, made in zip(application.functions, built, strict=True):
        known[function.bucket_parameter] = home.name
        known[function.key_parameter] = uploads.key_of(made)
        if function.digest_parameter is not None:
            known[function.digest_parameter] = made.code_sha256
    if clients.target == "aws":
        known |= application.on_aws
    given = {**known, **request.parameters}
    missing = [name for name, default in request.application.defaults.items() if default is None and name not in given]
    if missing:
        raise DeployError(
            f"{request.application.path} wants a value for {', '.join(missing)}: add "
            f"{' '.join(f'--parameter {name}=…' for name in missing)}.",
            usage=True,
        )
    application.check_values(given)
    return given


def _ask(arn: str, request: Request, to_make: Sequence[Bucket], reporter: Reporter) -> None:
    lines = [f"As {arn}, this makes on AWS:"]
    lines += [f"  bucket {bucket.name} in {bucket.region}" for bucket in to_make]
    lines += [f"  stack {request.stack} in us-east-1, after its change set has been shown"]
    if not reporter.confirm("\n".join([*lines, "Go on?"])):
        raise DeployError("Nothing was made.", refused=True)


def _agree(stack: Stack, change_set: ChangeSet, reporter: Reporter, *, ask: bool) -> None:
    """Show the change set; unless somebody says yes to it, nothing of it stays."""
    agreed = False
    try:
        reporter.changes(change_set)
        agreed = not ask or reporter.confirm("Carry out these changes?")
    finally:
        if not agreed:
            stack.discard(change_set)
    if not agreed:
        raise DeployError("Nothing was changed in the stack.", refused=True)


def _unique() -> str:
    return f"{time.time_ns():x}"
