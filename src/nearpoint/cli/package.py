"""`nearpoint package`: the zip of a Lambda@Edge function."""

from __future__ import annotations

from pathlib import Path

from nearpoint.aws.package import package, shipped_function
from nearpoint.cli.console import CommandError, Exit, notes, print_json
from nearpoint.cli.target import sentences


def command(*, folder: Path | None, output: Path, handler: str, runtime: str, event: str, as_json: bool) -> None:
    """Write the package and say what is in it."""
    if folder is not None and not folder.is_dir():
        raise CommandError(f"{folder} is no folder.", Exit.USAGE)
    with sentences():
        made = package(folder or shipped_function(), handler=handler, runtime=runtime, event=event)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(made.data)
    if as_json:
        print_json(
            {
                "file": str(output),
                "bytes": len(made.data),
                "unzipped_bytes": made.unzipped_bytes,
                "files": list(made.files),
                "handler": made.handler,
                "runtime": made.runtime,
                "event": made.event,
                "sha256": made.sha256,
                "code_sha256": made.code_sha256,
                "notes": list(made.notes),
            }
        )
        return
    for note in made.notes:
        notes.print(f"[yellow]note:[/] {note}", soft_wrap=True)
    notes.print(
        f"{output}: {len(made.data):,} bytes, {len(made.files)} files, for {made.runtime} at {made.event}.\n"
        f"SHA-256 {made.sha256}",
        soft_wrap=True,
    )
