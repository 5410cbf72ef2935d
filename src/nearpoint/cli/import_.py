"""`nearpoint import`: the template of a distribution and an access point that exist."""

from __future__ import annotations

from pathlib import Path

from nearpoint.aws.existing.compose import compose
from nearpoint.aws.existing.reading import read
from nearpoint.aws.existing.text import written
from nearpoint.aws.existing.writing import write
from nearpoint.cli.console import Exit, notes, print_json
from nearpoint.cli.progress import Progress
from nearpoint.cli.target import clients_of, interruptible, sentences


def command(
    *,
    distribution: str,
    access_point: str | None,
    output: Path,
    target: str,
    profile: str | None,
    data: Path,
    as_json: bool,
) -> Exit:
    """Read, write and say what to do next. FAILED where a function's code is missing."""
    progress = Progress(yes=True)
    with sentences():
        with interruptible("Nothing was written."):
            existing = read(clients_of(target, data=data, profile=profile), distribution, access_point, progress.step)
        composed = compose(existing)
        write(output, written(composed.template), composed.folders)
    missing = [function.name for function in existing.functions if function.files is None]
    regions = ",".join(bucket.region for bucket in existing.access_point.buckets)
    resources = composed.template["Resources"]
    if as_json:
        print_json(
            {
                "template": str(output),
                "resources": {name: resource["Type"] for name, resource in resources.items()},
                "folders": {folder: sorted(files) for folder, files in composed.folders.items()},
                "regions": regions.split(","),
                "notes": list(composed.notes),
                "missing": missing,
            }
        )
    else:
        for note in composed.notes:
            progress.note(note)
        folders = "".join(f", {output.parent / folder}/" for folder in composed.folders)
        notes.print(f"{output}{folders}: {len(resources)} resources.", soft_wrap=True)
        notes.print(f"Next: nearpoint deploy {output} --regions {regions} --stack NAME --plan", soft_wrap=True)
    return Exit.FAILED if missing else Exit.DONE
