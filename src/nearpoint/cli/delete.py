"""`nearpoint delete`: everything that `nearpoint deploy` made."""

from __future__ import annotations

from pathlib import Path

from nearpoint.aws.delete import delete
from nearpoint.cli.console import Exit, notes, print_json
from nearpoint.cli.progress import Progress
from nearpoint.cli.target import check_account, clients_of, interruptible, sentences


def command(
    *,
    stack: str,
    target: str,
    profile: str | None,
    account: str | None,
    keep_buckets: bool,
    wait: bool,
    yes: bool,
    data: Path,
    as_json: bool,
) -> Exit:
    """Remove it, and say what is left. FAILED where something is."""
    progress = Progress(yes=yes)
    with sentences():
        clients = clients_of(target, data=data, profile=profile)
        check_account(clients, account, stack)
        advice = "What was begun goes on by itself; the same command again goes on from here."
        with interruptible(advice), progress.live():
            done = delete(clients, stack, progress, keep_buckets=keep_buckets, wait=wait)
    if as_json:
        print_json(done.as_json)
    else:
        for what in done.left:
            notes.print(f"[yellow]left:[/] {what}", soft_wrap=True)
        for what in done.kept:
            notes.print(f"kept: {what}", soft_wrap=True)
        if done.advice:
            notes.print(done.advice, soft_wrap=True)
    return Exit.FAILED if done.left else Exit.DONE
