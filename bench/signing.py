"""Signing beside its peers: SigV4A by awscrt's own signer and by botocore's CRT signer; the pure engine; cold imports.

    python -m bench.signing [--rounds 5] [--calls 2000] [--json]

One typical S3 GET through an access point, with a session token. Every call makes the request value, signs it and has
the headers; keys and credentials providers are kept, as their users keep them. The peers take turns every few calls,
and the figure is the median of the rounds. The cold figures are of a fresh `python -I -S` that has only the standard
library and `nearpoint/signing`, as in a Lambda package: importing, the first signature (which derives the key), and the
next ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

HOST = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
PATH = "/photos/2026/11/cat.jpg"
KEY_ID, SECRET, TOKEN = "ASIAEXAMPLEEXAMPLE12", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdzE" * 30
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
BLOCK = 50  # calls: the peers take turns this often, so that what else the machine does hits them alike

COLD = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
from nearpoint.signing import EMPTY_SHA256, Credentials, Message, sign_v4a
imported = time.perf_counter()
from datetime import UTC, datetime
who = Credentials(*sys.argv[1:4])
def sign():
    message = Message("GET", sys.argv[5], "", [("Host", sys.argv[4]), ("Range", "bytes=0-1023")])
    return sign_v4a(message, who, now=datetime.now(UTC), payload_hash=EMPTY_SHA256)
begin = time.perf_counter()
sign()
first = time.perf_counter()
for _ in range(300):
    sign()
print((imported - start) * 1e3, (first - begin) * 1e3, (time.perf_counter() - first) / 300 * 1e3)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; `target` says what issue 2 asks of it, and `met` whether it was met."""

    name: str
    value: float
    unit: str
    target: str = ""
    met: bool = True


def _ours() -> None:
    from nearpoint.signing import Credentials, Message, sign_v4a

    message = Message("GET", PATH, "", [("Host", HOST), ("Range", "bytes=0-1023")])
    sign_v4a(message, Credentials(KEY_ID, SECRET, TOKEN), now=datetime.now(UTC), payload_hash=EMPTY)


def _ours_v4() -> None:
    from nearpoint.signing import Credentials, Message, sign_v4

    message = Message("GET", PATH, "", [("Host", HOST), ("Range", "bytes=0-1023")])
    who = Credentials(KEY_ID, SECRET, TOKEN)
    sign_v4(message, who, region="us-east-1", now=datetime.now(UTC), payload_hash=EMPTY)


def _verifier() -> Callable[[], None]:
    from nearpoint.signing import Credentials, Message, read_claim, sign_v4a, verify

    bare = Message("GET", PATH, "", [("Host", HOST), ("Range", "bytes=0-1023")])
    now = datetime.now(UTC)
    headers = sign_v4a(bare, Credentials(KEY_ID, SECRET, TOKEN), now=now, payload_hash=EMPTY)
    message = Message("GET", PATH, "", [*bare.headers, *headers])

    def call() -> None:
        claim = read_claim(message)
        assert claim is not None
        verify(claim, message, SECRET, now=now, region="us-east-1", service="s3")

    return call


def _awscrt_signer() -> Callable[[], None]:
    from awscrt import auth, http

    provider = auth.AwsCredentialsProvider.new_static(KEY_ID, SECRET, TOKEN)

    def call() -> None:
        request = http.HttpRequest("GET", PATH, http.HttpHeaders([("Host", HOST), ("Range", "bytes=0-1023")]))
        config = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4_ASYMMETRIC,
            credentials_provider=provider,
            region="*",
            service="s3",
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=EMPTY,
            signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        auth.aws_sign_request(request, config).result()

    return call


def _botocore_signer() -> Callable[[], None]:
    import botocore.session  # noqa: F401 (before botocore.crt.auth, or that is a circular import)
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from botocore.crt.auth import CrtS3SigV4AsymAuth

    signer = CrtS3SigV4AsymAuth(Credentials(KEY_ID, SECRET, TOKEN), "s3", "*")

    def call() -> None:
        signer.add_auth(AWSRequest("GET", f"https://{HOST}{PATH}", headers={"Range": "bytes=0-1023"}))

    return call


def _medians_us(calls: dict[str, Callable[[], None]], rounds: int, count: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        spent = dict.fromkeys(calls, 0.0)
        for _ in range(count // BLOCK):
            for name, call in calls.items():
                start = time.perf_counter()
                for _ in range(BLOCK):
                    call()
                spent[name] += time.perf_counter() - start
        for name, seconds in spent.items():
            taken[name].append(seconds / (count // BLOCK * BLOCK) * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


def peers(rounds: int = 5, count: int = 2000) -> list[Row]:
    """SigV4A against the peers, and what else the data plane does with a signature, in µs a call."""
    us = _medians_us(
        {
            "SigV4A sign": _ours,
            "SigV4A sign, awscrt": _awscrt_signer(),
            "SigV4A sign, botocore with awscrt": _botocore_signer(),
            "SigV4 sign": _ours_v4,
            "SigV4A read and verify": _verifier(),
        },
        rounds,
        count,
    )
    ours, crt, botocore = list(us.values())[:3]
    met = ours <= crt and 2 * ours <= botocore
    target = f"no slower than awscrt ({crt / ours:.2f} times), twice as fast as botocore ({botocore / ours:.2f} times)"
    return [
        Row(name=name, value=value, unit="µs", target=target if value is ours else "", met=met or value is not ours)
        for name, value in us.items()
    ]


def cold(rounds: int = 5) -> list[Row]:
    """The pure engine in a process that has nothing else, in ms."""
    source = Path(__file__).parents[1] / "src" / "nearpoint"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "nearpoint"
        shutil.copytree(source / "signing", package / "signing", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(source / "__init__.py", package)
        python = getattr(sys, "_base_executable", sys.executable)
        program = f"import sys; sys.path.insert(0, {folder!r})\n{COLD}"
        command = [python, "-I", "-S", "-c", program, KEY_ID, SECRET, TOKEN, HOST, PATH]
        runs = [
            [
                float(word)
                for word in subprocess.run(command, check=True, capture_output=True, timeout=60).stdout.split()
            ]
            for _ in range(rounds + 1)
        ][1:]  # the first one compiles
    imported, first, each = (statistics.median(run[column] for run in runs) for column in range(3))
    return [
        Row(name="cold import", value=imported, unit="ms", target="under 60 ms", met=imported < 60),
        Row(name="pure SigV4A, first signature", value=first, unit="ms"),
        Row(name="pure SigV4A, next signatures", value=each, unit="ms", target="under 1 ms", met=each < 1),
    ]


def rows(rounds: int = 5, count: int = 2000) -> list[Row]:
    """Every figure of this room."""
    return [*peers(rounds, count), *cold(rounds)]


def main() -> int:
    """Prints the figures; 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.signing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = rows(options.rounds, options.calls)
    if options.json:
        sys.stdout.write(json.dumps([asdict(row) for row in measured]) + "\n")
    else:
        for row in measured:
            verdict = f"  {'met' if row.met else 'MISSED'}: {row.target}" if row.target else ""
            sys.stdout.write(f"{row.name:36} {row.value:8.2f} {row.unit}{verdict}\n")
    return 0 if all(row.met for row in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
