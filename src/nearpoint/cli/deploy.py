"""`nearpoint deploy`: a template and its buckets onto the local world or AWS."""

from __future__ import annotations

import re
from pathlib import Path

from nearpoint.aws.application import load
from nearpoint.aws.deploy import Deployed, Request, deploy
from nearpoint.cli.console import CommandError, Exit, print_json, results
from nearpoint.cli.progress import Progress
from nearpoint.cli.target import check_account, check_world_has, clients_of, interruptible, sentences

STACK_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")


def command(
    *,
    template: Path,
    regions: str,
    stack: str | None,
    target: str,
    profile: str | None,
    account: str | None,
    parameters: list[str],
    plan: bool,
    yes: bool,
    data: Path,
    as_json: bool,
) -> None:
    """Deploy and print the outputs."""
    with sentences():
        application = load(template)
        request = Request(
            application=application,
            stack=stack or default_stack(application.path),
            regions=tuple(each for each in (part.strip() for part in regions.split(",")) if each),
            parameters=_parameters(parameters),
            plan_only=plan,
        )
        if not STACK_NAME.fullmatch(request.stack):
            raise CommandError(
                f"{request.stack!r} is no stack name: letters, digits and hyphens, a letter first.", Exit.USAGE
            )
        progress = Progress(yes=yes or target == "local")
        advice = (
            "Nothing was changed."
            if plan
            else "What was begun goes on by itself. The same command again goes on from here; "
            f"`nearpoint delete --stack {request.stack}` removes what is there."
        )
        with interruptible(advice), progress.live():
            clients = clients_of(target, data=data, profile=profile)
            check_account(clients, account, request.stack)
            if target == "local":
                check_world_has(request.regions, data=data)
            done = deploy(clients, request, progress)
    if as_json:
        print_json(done.as_json)
    else:
        _show(done, plan)


def default_stack(path: Path) -> str:
    """The folder's name: a template is called template.yaml more often than not."""
    resolved = path.resolve()
    return resolved.parent.name if resolved.stem == "template" else resolved.stem


def _parameters(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise CommandError(f"--parameter takes KEY=VALUE, not {each!r}.", Exit.USAGE)
        found[key] = value
    return found


def _show(done: Deployed, plan: bool) -> None:
    if plan:
        return
    width = max((len(key) for key in done.outputs), default=0)
    for key, value in done.outputs.items():
        results.print(f"{key:<{width}}  {value}", soft_wrap=True)
