"""`nearpoint shell LOCATION`: a shell, or one command, that stands somewhere.

Its proxies lead through the location proxy; its certificate variables name one bundle of the system's authorities and
the local one; its AWS variables are the world's credentials. So ordinary clients work without a flag.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from nearpoint.cli.console import CommandError, Exit, notes
from nearpoint.cli.world_client import WorldClient
from nearpoint.world import geography
from nearpoint.world.layout import Layout, World

BUNDLE_VARIABLES = (
    "AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE",
)  # fmt: skip
# Would lead a client past the proxy or to other credentials.
REMOVED_VARIABLES = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
    "ALL_PROXY", "all_proxy", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_DATA_PATH",
)  # fmt: skip
OURS = (".amazonaws.com", ".cloudfront.net", ".amazonaws.com.cn", ".api.aws")


def find_location(name: str) -> geography.Place:
    """The place of that name, or a CommandError that lists them."""
    place = geography.find_place(name)
    if place is None:
        known = ", ".join(geography.REGIONS) + "; " + ", ".join(geography.POPS)
        raise CommandError(f"No such place: {name}. Known: {known}.", Exit.USAGE)
    return place


def _no_proxy(environment: dict[str, str]) -> str:
    """The user's exceptions, without those that would lead AWS names past the local world and out of the machine."""
    entries = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    kept = []
    for entry in (each.strip() for each in entries):
        domain = "." + entry.lstrip("*.").lower()
        if entry and entry != "*" and not any(ours.endswith(domain) or domain.endswith(ours) for ours in OURS):
            kept.append(entry)
    return ",".join(dict.fromkeys([*kept, "127.0.0.1", "localhost", "::1"]))


def environment(layout: Layout, world: World, place: geography.Place, base: dict[str, str]) -> dict[str, str]:
    """`base` as it has to be for a client that stands at `place`."""
    made = {name: value for name, value in base.items() if name not in REMOVED_VARIABLES}
    region = place.name if place.name in world.regions else geography.nearest(place, world.regions)
    # A dummy password: botocore drops a proxy user that has none.
    proxy = f"http://{place.name}:x@127.0.0.1:{world.ports['proxy']}"
    no_proxy = _no_proxy(base)
    made |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    made |= dict.fromkeys(("no_proxy", "NO_PROXY"), no_proxy)
    made |= dict.fromkeys(BUNDLE_VARIABLES, str(layout.trust_bundle))
    made |= {
        "AWS_ACCESS_KEY_ID": world.access_key_id,
        "AWS_SECRET_ACCESS_KEY": world.secret_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NEARPOINT_LOCATION": place.name,
        "NEARPOINT_DATA": str(layout.data),
        "PATH": base.get("PATH", os.defpath) + os.pathsep + str(Path(sys.executable).parent),
    }
    return made


def shell(*, data: Path, location: str, command: list[str]) -> int:
    """Open a shell at the location, or run one command there. Returns its exit code."""
    place = find_location(location)
    client = WorldClient(data)
    made = environment(client.layout, client.world, place, dict(os.environ))
    if not command:
        program = os.environ.get("SHELL") or shutil.which("bash") or "/bin/sh"
        notes.print(
            f"You stand in {place.city} ({place.name}): [dim]aws, boto3 and curl work here, `exit` leaves.[/]",
            soft_wrap=True,
        )
        command = [program]
        if Path(program).name == "bash":
            rc = client.layout.run / "bashrc"
            rc.write_text(f'[ -f ~/.bashrc ] && . ~/.bashrc\nPS1="({place.name}) $PS1"\n')
            command = [program, "--rcfile", str(rc), "-i"]
    try:
        return subprocess.run(command, env=made, check=False).returncode
    except FileNotFoundError:
        raise CommandError(f"{command[0]}: no such program.", Exit.FAILED) from None
    except PermissionError:
        raise CommandError(f"{command[0]}: cannot be run.", Exit.FAILED) from None
