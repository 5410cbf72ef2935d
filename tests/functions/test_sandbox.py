"""The sandbox over real packages: what a handler is given, and what becomes of one that misbehaves."""

# ruff: noqa: ASYNC110 - other processes set no event
from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from nearpoint.functions import worker
from nearpoint.signing import Credentials

ECHO = "def handler(event, context):\n    return event\n"
PID = "import os\ndef handler(event, context):\n    return [os.getpid(), os.getppid()]\n"


async def test_a_handler_gets_event_and_context_and_its_result_comes_back(bench):
    function = bench.function(
        """
def handler(event, context):
    left = context.get_remaining_time_in_millis()
    return {
        "event": event, "id": context.aws_request_id, "name": context.function_name,
        "version": context.function_version,
        "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb, "group": context.log_group_name,
        "stream": context.log_stream_name != "", "left": 0 < left <= 9000,
    }
"""
    )
    event = {"text": "é€😀", "deep": [{"a": None, "b": 1.5, "c": True}]}
    ran = await bench.call(function, event, request_id="abc==", deadline_s=9)
    assert ran.kind is None, ran
    assert ran.value == {
        "event": event,
        "id": "abc==",
        "name": "edge-function",
        "version": "7",
        "arn": "arn:aws:lambda:us-east-1:123456789012:function:edge-function:7",
        "memory": "128",
        "group": "/aws/lambda/us-east-1.edge-function",
        "stream": True,
        "left": True,
    }
    assert ran.init_ms is not None
    assert ran.peak_memory_mb > 1


async def test_a_warm_worker_is_used_again(bench):
    function = bench.function(PID)
    first, second = await bench.call(function), await bench.call(function)
    assert first.value == second.value
    assert second.init_ms is None


async def test_calls_at_once_run_in_workers_of_one_zygote(bench):
    function = bench.function(
        "import os, time\ndef handler(event, context):\n    time.sleep(0.2)\n    return [os.getpid(), os.getppid()]\n"
    )
    ran = await asyncio.gather(*(bench.call(function) for _ in range(4)))
    assert len({one.value[0] for one in ran}) == 4
    assert len({one.value[1] for one in ran}) == 1


@pytest.mark.parametrize(
    ("source", "handler", "kind", "words"),
    [
        ("def handler(e, c):\n    raise KeyError('no such thing')\n", "app.handler", "raised", "KeyError"),
        ("def handler(e, c):\n    return {1, 2}\n", "app.handler", "malformed", "not JSON"),
        ("def handler(e, c):\n    return float('nan')\n", "app.handler", "malformed", "not JSON"),
        ("async def handler(e, c):\n    return e\n", "app.handler", "malformed", "coroutine"),
        ("def handler(e, c):\n    return 'x' * (7 << 20)\n", "app.handler", "too-large", "allowed"),
        ("import os\ndef handler(e, c):\n    os._exit(3)\n", "app.handler", "crashed", "exit status 3"),
        ("import sys\ndef handler(e, c):\n    sys.exit(4)\n", "app.handler", "crashed", "sys.exit(4)"),
        ("import os\ndef handler(e, c):\n    os.abort()\n", "app.handler", "crashed", "SIGABRT"),
        ("import os\ndef handler(e, c):\n    os.kill(os.getpid(), 9)\n", "app.handler", "crashed", "SIGKILL"),
        ("def handler(e, c):\n    while True: pass\n", "app.handler", "timeout", "time limit"),
        ("def handler(e, c):\n    return 'x' * (1 << 30)\n", "app.handler", "memory", "MemoryError"),
        ("import missing_module\n", "app.handler", "import-error", "No module named 'missing_module'"),
        ("def other(e, c): pass\n", "app.handler", "import-error", "Handler 'handler' missing on module 'app'"),
        ("def handler(e, c)\n", "app.handler", "import-error", "Syntax error in module 'app'"),
        ("x = 1\n", "handler", "import-error", "MalformedHandlerName"),
        ("x = 1\n", "nothing.handler", "import-error", "No module named 'nothing'"),
        ("raise ValueError('at import')\n", "app.handler", "import-error", "at import"),
        ("import os\nos._exit(5)\n", "app.handler", "import-error", "exit status 5"),
        ("import sys\nsys.exit(6)\n", "app.handler", "import-error", "SystemExit"),
    ],
)
async def test_a_handler_that_misbehaves_costs_its_call(bench, source, handler, kind, words):
    function = bench.function(source, handler=handler)
    ran = await bench.call(function, {}, deadline_s=1)
    assert ran.kind == kind, ran
    assert words in ran.text
    logged = [line for _, request_id, line in bench.lines if request_id == "request-1"]
    assert logged[0] == "START RequestId: request-1 Version: 7"
    assert any(line.startswith(f"ERROR RequestId: request-1 {kind}") for line in logged)
    assert logged[-2] == "END RequestId: request-1"
    assert logged[-1].startswith("REPORT RequestId: request-1\tDuration: ")


async def test_the_next_call_after_a_bad_one_is_served(bench):
    function = bench.function(
        """
import os
def handler(event, context):
    if event == "exit": os._exit(1)
    if event == "loop":
        while True: pass
    if event == "raise": raise ValueError
    if event == "fork":
        if os.fork() == 0:
            import time; time.sleep(60)
    return "fine"
"""
    )
    for event in ("exit", "fine", "loop", "fine", "raise", "fine", "fork", "fine"):
        ran = await bench.call(function, event, deadline_s=0.5)
        assert (ran.value == "fine") == (event in ("fine", "fork")), (event, ran)


async def test_a_forked_process_does_not_answer(bench):
    function = bench.function(
        """
import os, time
def handler(event, context):
    if event == "fork":
        if os.fork() == 0:
            time.sleep(0.2)  # comes back from here while the next call runs
    else:
        time.sleep(0.6)
    return event
"""
    )
    assert (await bench.call(function, "fork")).value == "fork"
    assert (await bench.call(function, "next")).value == "next"


async def test_processes_that_multiply_are_stopped(bench, monkeypatch):
    monkeypatch.setattr(worker, "PROCESSES_MAX", 20)
    function = bench.function(
        """
import os, time
def handler(event, context):
    if event:
        print(os.getpid(), flush=True)
        for _ in range(40):
            if os.fork() == 0:
                time.sleep(60)
        time.sleep(60)
    return "fine"
"""
    )
    ran = await bench.call(function, 1, request_id="many", deadline_s=60)
    assert (ran.kind, ran.text) == ("crashed", "the function had more than 20 processes")
    leader = int(await bench.until_printed("many"))
    while worker.processes_of(leader):
        await asyncio.sleep(0.01)
    assert (await bench.call(function, 0)).value == "fine"


async def test_memory_that_grows_is_stopped(bench):
    function = bench.function(
        """
import time
def handler(event, context):
    kept = []
    while True:
        kept.append(bytearray(b"x" * (4 << 20)))
        time.sleep(0.005)
""",
        memory_mb=64,
    )
    ran = await bench.call(function)
    assert ran.kind == "memory"
    assert "memory limit exceeded" in ran.text
    assert "64 MB allowed" in ran.text


async def test_prints_and_log_records_are_logged_with_the_request(bench):
    function = bench.function(
        """
import logging, sys
print("at import")
logging.getLogger().setLevel("INFO")
def handler(event, context):
    print("one")
    print("two", file=sys.stderr)
    logging.info("three %s", 3)
    sys.stdout.write("no end")
"""
    )
    await bench.call(function, request_id="r-1")
    await bench.call(function, request_id="r-2")
    for request_id in ("r-1", "r-2"):
        one, two, three, four = bench.printed(request_id)
        assert (one, two, four) == ("one", "two", "no end")
        level, _, logged_id, text = three.split("\t")
        assert (level, logged_id, text) == ("[INFO]", request_id, "three 3")
    assert bench.printed("init") == ["at import"]


async def test_what_a_call_prints_is_bounded(bench):
    function = bench.function(
        "def handler(e, c):\n    print('x' * 100_000)\n    print('y\\n' * 1_000_000)\n    return 1\n"
    )
    ran = await bench.call(function)
    assert ran.value == 1
    lines = bench.printed("request-1")
    assert max(len(line) for line in lines) <= 8192
    assert sum(len(line) + 1 for line in lines) < 300_000
    assert lines[-1].endswith("bytes of output dropped")


async def test_what_a_raising_handler_prints_has_its_trace(bench):
    function = bench.function("def inner():\n    raise ValueError('x1')\ndef handler(e, c):\n    inner()\n")
    await bench.call(function)
    text = "\n".join(bench.printed("request-1"))
    assert "app.py" in text
    assert "inner" in text
    assert "bootstrap" not in text


async def test_environment_is_lambdas_and_nothing_of_the_parents(bench, monkeypatch):
    monkeypatch.setenv("NEARPOINT_SECRET", "leak")
    function = bench.function(
        "import os\ndef handler(e, c):\n    return dict(os.environ)\n",
        environment={"STAGE": "test", "AWS_REGION": "no"},
    )
    environment = (await bench.call(function)).value
    folder = environment["LAMBDA_TASK_ROOT"]
    assert Path(folder, "app.py").is_file()
    assert environment["TMPDIR"] == environment["HOME"]
    expected = {
        "AWS_ACCESS_KEY_ID": "ASIAONE",
        "AWS_SECRET_ACCESS_KEY": "secret-one",
        "AWS_SESSION_TOKEN": "token-one",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "edge-function",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/us-east-1.edge-function",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "_HANDLER": "app.handler",
        "STAGE": "test",
        "TZ": ":UTC",
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert set(environment) <= expected.keys() | {
        *("LAMBDA_TASK_ROOT", "HOME", "TMPDIR", "PATH", "LANG", "LC_CTYPE"),
        *("AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    }


async def test_new_credentials_reach_warm_workers_and_later_modules(make_bench):
    bench = make_bench(renew_interval_s=0)
    function = bench.function(
        """
import os
AT_IMPORT = os.environ["AWS_ACCESS_KEY_ID"]
def handler(event, context):
    return [AT_IMPORT, os.environ["AWS_ACCESS_KEY_ID"], os.environ.get("AWS_SESSION_TOKEN")]
"""
    )
    new = Credentials(access_key_id="AKIATWO", secret_key="secret-two", session_token=None)
    assert (await bench.call(function)).value == ["ASIAONE", "ASIAONE", "token-one"]
    assert (await bench.call(function, credentials=new)).value == ["ASIAONE", "AKIATWO", None]
    async with asyncio.timeout(10):
        while (await bench.call(function, credentials=new)).value != ["AKIATWO", "AKIATWO", None]:
            await asyncio.sleep(0.01)


async def test_killed_worker_costs_its_call_only(bench):
    function = bench.function(
        "import time, os\ndef handler(e, c):\n    print(os.getpid(), flush=True)\n    time.sleep(e)\n    return 1\n"
    )
    await bench.call(function, 0)
    call = asyncio.create_task(bench.call(function, 30, request_id="victim", deadline_s=60))
    printed = await bench.until_printed("victim")
    os.kill(int(printed), signal.SIGKILL)
    ran = await call
    assert (ran.kind, "SIGKILL" in ran.text) == ("crashed", True)
    assert (await bench.call(function, 0)).value == 1


async def test_killed_zygote_takes_its_workers_and_is_started_again(bench):
    function = bench.function(
        """
import os, subprocess, time
def handler(event, context):
    if event:
        child = subprocess.Popen(["sleep", "100"])
        print(os.getpid(), os.getppid(), child.pid, flush=True)
        time.sleep(event)
    return os.getppid()
"""
    )
    zygote_pid = (await bench.call(function, 0)).value
    call = asyncio.create_task(bench.call(function, 30, request_id="victim", deadline_s=60))
    printed = await bench.until_printed("victim")
    pids = [int(pid) for pid in printed.split()]
    assert zygote_pid in pids
    os.kill(zygote_pid, signal.SIGKILL)
    assert (await call).kind == "crashed"
    await bench.until_gone(pids)
    assert (await bench.call(function, 0)).value not in (None, zygote_pid)


async def test_closing_leaves_no_process(make_bench):
    bench = make_bench()
    function = bench.function(
        "import os, subprocess\ndef handler(e, c):\n    child = subprocess.Popen(['sleep', '100'])\n"
        "    return [os.getpid(), os.getppid(), child.pid]\n"
    )
    pids = (await bench.call(function)).value
    assert all(bench.is_running(pid) for pid in pids)
    await bench.sandbox.close()
    await bench.until_gone(pids)


async def test_a_cancelled_call_ends_its_worker(bench):
    function = bench.function(
        "import os, time\ndef handler(e, c):\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n"
    )
    call = asyncio.create_task(bench.call(function, deadline_s=60))
    printed = await bench.until_printed("request-1")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await bench.until_gone([int(printed)])


async def test_more_calls_than_the_queue_takes_are_throttled(make_bench):
    bench = make_bench(concurrency_max=2, queue_max=2)
    function = bench.function("import time\ndef handler(e, c):\n    time.sleep(0.3)\n    return 1\n")
    await bench.call(function)
    ran = await asyncio.gather(*(bench.call(function) for _ in range(6)))
    kinds = [one.kind for one in ran]
    # One idle worker takes the first; two wait, one of them for the second worker that is being forked.
    assert kinds.count(None) == 3
    assert kinds.count("throttled") == 3


async def test_a_call_that_waits_too_long_is_throttled(make_bench):
    bench = make_bench(concurrency_max=1)
    function = bench.function("import time\ndef handler(e, c):\n    time.sleep(e)\n    return 1\n")
    await bench.call(function, 0)
    slow = asyncio.create_task(bench.call(function, 1))
    await asyncio.sleep(0)
    assert (await bench.call(function, 0, deadline_s=0.1)).kind == "throttled"
    assert (await slow).value == 1
    assert (await bench.call(function, 0)).value == 1


async def test_idle_processes_end(make_bench):
    bench = make_bench(worker_idle_s=0.1, zygote_idle_s=0.2)
    function = bench.function(PID)
    pids = (await bench.call(function)).value
    await bench.until_gone(pids)
    assert set((await bench.call(function)).value).isdisjoint(pids)


async def test_a_failed_import_is_remembered_for_a_while(make_bench):
    bench = make_bench(failed_s=0.3)
    function = bench.function("print('importing')\nimport nothing_like_this\n")
    for _ in range(3):
        assert (await bench.call(function)).kind == "import-error"
    assert bench.printed("init").count("importing") == 1
    await asyncio.sleep(0.35)
    await bench.call(function)
    assert bench.printed("init").count("importing") == 2


async def test_an_import_that_hangs_is_given_up(make_bench):
    bench = make_bench(import_timeout_s=0.3)
    ran = await bench.call(bench.function("import time\ntime.sleep(60)\n"))
    assert ran.kind == "import-error"
    assert "longer than" in ran.text


async def test_a_module_with_threads_works(bench):
    function = bench.function(
        """
import os, queue, threading
asked, answers = queue.Queue(), queue.Queue()
def work():
    while True: answers.put(asked.get() * 2)
threading.Thread(target=work, daemon=True).start()
def handler(event, context):
    asked.put(event)
    return [answers.get(timeout=5), os.getpid()]
"""
    )
    ran = await asyncio.gather(*(bench.call(function, number) for number in range(3)))
    assert [one.value[0] for one in ran] == [0, 2, 4]
    again = await bench.call(function, 21)
    assert again.value[0] == 42
    assert again.value[1] in {one.value[1] for one in ran}


async def test_a_handler_in_a_folder(bench):
    function = bench.function({"pkg/mod.py": ECHO, "pkg/__init__.py": ""}, handler="pkg/mod.handler")
    assert (await bench.call(function, 1)).value == 1
    function = bench.function({"a/b.py": ECHO}, handler="a.b.handler")
    assert (await bench.call(function, 2)).value == 2


async def test_the_packages_own_modules_are_not_shadowed(bench):
    names = ("bootstrap", "containment", "process", "nearpoint", "logs", "orjson", "event")
    files = {f"{name}.py": f"WHO = 'package {name}'\n" for name in names}
    files["app.py"] = (
        f"import importlib\ndef handler(e, c):\n    return [importlib.import_module(n).WHO for n in {names}]\n"
    )
    assert (await bench.call(bench.function(files))).value == [f"package {name}" for name in names]


async def test_modules_of_ours_are_hidden_and_runtime_libraries_are_not(bench):
    function = bench.function(
        """
import importlib
def can_import(name):
    try: importlib.import_module(name)
    except ModuleNotFoundError: return False
    return True
def handler(event, context):
    return {name: can_import(name) for name in event}
"""
    )
    ran = await bench.call(function, ["awscrt", "orjson", "nearpoint", "cryptography", "boto3", "botocore.auth", "six"])
    assert ran.value == {
        "awscrt": False,
        "orjson": False,
        "nearpoint": False,
        "cryptography": False,
        "boto3": True,
        "botocore.auth": True,
        "six": True,
    }


async def test_a_wheel_for_another_python_is_named(bench):
    function = bench.function(
        {
            "app.py": "import fast\n",
            "fast/__init__.py": "from fast._core import x\n",
            "fast/_core.cpython-39-x86_64-linux-gnu.so": b"",
        }
    )
    ran = await bench.call(function)
    assert ran.kind == "import-error"
    assert "_core.cpython-39-x86_64-linux-gnu.so, built for another Python" in ran.text


async def test_another_runtime_version_runs_with_a_warning(bench):
    function = bench.function(ECHO, runtime="python3.8")
    assert (await bench.call(function, 5)).value == 5
    assert any("python3.8" in line for _, request_id, line in bench.lines if request_id == "init")
