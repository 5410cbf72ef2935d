"""What a function cannot do, and what it can: over real processes, on kernels that have the means."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearpoint.functions.containment import landlock_abi

needs_landlock = pytest.mark.skipif(landlock_abi() < 1, reason="this kernel has no Landlock")
needs_landlock_net = pytest.mark.skipif(landlock_abi() < 4, reason="this kernel's Landlock does not cover TCP")
needs_landlock_signals = pytest.mark.skipif(landlock_abi() < 6, reason="this kernel's Landlock does not cover signals")

# Out of bounds, or not even there for a function whose /tmp is its own; or read-only.
DENIED = ("PermissionError", "FileNotFoundError", "OSError")

TRY = """
def handler(event, context):
    try:
        exec(event, scope := {})
        return scope.get("out", "done")
    except OSError as error:
        return type(error).__name__
"""


@needs_landlock
@pytest.mark.parametrize("path", ["/etc/shadow", "/proc/1/environ", "/root", "/proc/self/environ", "/var/log", "/home"])
async def test_files_of_others_are_out_of_reach(bench, path):
    function = bench.function(TRY)
    source = f"import os\nout = os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}).read()"
    ran = await bench.call(function, source)
    assert ran.value == "PermissionError" or (ran.value == "FileNotFoundError" and not Path(path).exists())


@pytest.fixture(params=["/tmp", "/var/tmp"])
def placed(request, make_bench) -> Iterator[Any]:
    """A sandbox whose folders lie below /tmp, which is covered, or elsewhere, which is not."""
    with tempfile.TemporaryDirectory(dir=request.param) as folder:
        yield make_bench(folder=Path(folder))


@needs_landlock
async def test_the_data_folder_is_out_of_reach(placed):
    secret = placed.folder / "secrets.json"
    secret.write_text("secret")
    function = placed.function(TRY)
    (archive,) = (placed.folder / "packages").iterdir()
    refused = ("PermissionError",) if placed.folder.is_relative_to("/var/tmp") else DENIED
    for source in (
        f"out = open({str(secret)!r}).read()",
        f"out = open({str(archive)!r}, 'rb').read(1)",
        f"import os; out = os.listdir({str(archive.parent)!r})",
    ):
        assert (await placed.call(function, source)).value in refused
    shell = f"import subprocess; out = subprocess.run(['cat', {str(secret)!r}], capture_output=True, text=True).stdout"
    assert (await placed.call(function, shell)).value == ""


@needs_landlock
async def test_the_package_cannot_be_written(placed):
    function = placed.function(TRY)
    root = "import os; root = os.environ['LAMBDA_TASK_ROOT']; "
    for source in ("open(root + '/new', 'w')", "os.unlink(root + '/app.py')", "os.rename(root + '/app.py', '/tmp/x')"):
        assert (await placed.call(function, root + source)).value in ("PermissionError", "OSError")
    assert (await placed.call(function, root + "out = os.listdir(root)")).value == ["app.py"]


async def test_scratch_space_works_and_goes_with_the_sandbox(bench):
    function = bench.function(TRY)
    source = """
        import os, tempfile
        with tempfile.NamedTemporaryFile("w+", delete=False) as file:
            file.write("kept")
            file.seek(0)
            os.mkdir(os.path.join(os.environ["HOME"], "folder"))
            out = [file.read(), file.name]
    """
    text, name = (await bench.call(function, textwrap.dedent(source))).value
    assert text == "kept"
    await bench.sandbox.close()
    assert not list(bench.folder.rglob(Path(name).name))


async def test_tmp_is_the_functions_own(bench):
    function = bench.function(TRY)
    ran = await bench.call(function, "open('/tmp/nearpoint-test', 'w').write('x'); import os; out = os.listdir('/tmp')")
    if ran.value == "PermissionError":
        pytest.skip("no mount namespace can be made here")
    # What the function may read and lies below /tmp stays reachable: its package, and a checkout that is there.
    readable = (bench.folder, Path(sysconfig.get_paths()["purelib"]))
    below_tmp = {path.relative_to("/tmp").parts[0] for path in readable if path.is_relative_to("/tmp")}
    assert set(ran.value) == {"nearpoint-test", *below_tmp}
    assert not Path("/tmp/nearpoint-test").exists()


@needs_landlock_net
async def test_tcp_is_out_of_reach(bench, loopback_socket):
    function = bench.function(TRY)
    port = loopback_socket.getsockname()[1]
    source = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    assert (await bench.call(function, source)).value == "PermissionError"
    assert (
        await bench.call(function, "import socket; socket.create_server(('127.0.0.1', 0))")
    ).value == "PermissionError"


@needs_landlock_signals
async def test_other_processes_cannot_be_signalled(bench):
    function = bench.function(TRY)
    assert (await bench.call(function, f"import os; os.kill({os.getpid()}, 0)")).value in (
        "PermissionError",
        "ProcessLookupError",
    )


async def test_limits_of_the_process(bench):
    function = bench.function(
        """
import resource
def handler(event, context):
    limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("CORE", "NOFILE", "FSIZE")}
    with open("/proc/cpuinfo"):
        return limits
"""
    )
    assert (await bench.call(function)).value == {"CORE": [0, 0], "NOFILE": [1024, 1024], "FSIZE": [512 << 20] * 2}


async def test_root_has_no_powers(bench):
    if os.geteuid() != 0:
        pytest.skip("not running as root")
    function = bench.function(
        "import ctypes\ndef handler(e, c):\n    libc = ctypes.CDLL(None)\n"
        "    powers = [libc.prctl(23, number, 0, 0, 0) for number in (0, 1, 6, 19, 21)]\n"
        "    return [libc.prctl(39, 0, 0, 0, 0), *powers, libc.mount(b'a', b'/', b'b', 0, None)]\n"
    )
    assert (await bench.call(function)).value == [1, 0, 0, 0, 0, 0, -1]


NODE = """
import asyncio, json, sys
from pathlib import Path
from nearpoint.functions.sandbox import Sandbox
from nearpoint.signing import Credentials
from nearpoint.state.resources import Function
import msgspec

async def main():
    folder = Path(sys.argv[1])
    function = msgspec.json.decode(sys.argv[2], type=Function)
    sandbox = Sandbox(cache_dir=folder / "cache", packages_dir=folder / "packages", log=lambda *line: None)
    credentials = Credentials(access_key_id="A", secret_key="B")
    call = lambda event: sandbox.invoke(function, event, request_id="r", credentials=credentials, deadline_s=60)
    ran = await call(0)
    print(json.dumps(ran.value), flush=True)
    await call(60)

asyncio.run(main())
"""


async def test_nothing_survives_a_killed_node(bench):
    import msgspec

    function = bench.function(
        "import os, subprocess, time\ndef handler(event, context):\n    time.sleep(event)\n"
        "    return [os.getpid(), os.getppid(), subprocess.Popen(['sleep', '100']).pid]\n"
    )
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(bench.folder), msgspec.json.encode(function).decode(), stdout=subprocess.PIPE
    )
    assert node.stdout is not None
    try:
        pids = json.loads(await asyncio.wait_for(node.stdout.readline(), 20))
    finally:
        node.send_signal(signal.SIGKILL)
    await node.wait()
    await bench.until_gone(pids)


async def test_unix_sockets_of_the_abstract_kind_are_out_of_reach(bench):
    if landlock_abi() < 6:
        pytest.skip("this kernel's Landlock does not cover them")
    name = f"\0nearpoint-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        source = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})"
        assert (await bench.call(bench.function(TRY), source)).value == "PermissionError"
