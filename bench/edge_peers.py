"""The servers that `bench.edge` compares: how each is started in front of the same origin, on one core.

- nearpoint: `nearpoint edge`, one worker, answers in its memory and in a folder, CloudFront's log.
- nginx: `proxy_cache` in a folder, one worker, `sendfile`, a combined log written in blocks of 64 KB. nginx's built-in
  default is `sendfile off`: `nginx, no sendfile`.
- varnish: answers in its memory (`malloc`), one thread pool; its log is written by `varnishncsa`, on the same core,
  whose processor time is counted with it.
- envoy: its HTTP cache filter with answers in its memory (`SimpleHttpCache`), one worker thread (`--concurrency 1`), a
  log to a file. It is there for misses. `envoy, not stored` only passes them on.

A peer that is not installed is left out, with the way to install it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOAD_CORE, ORIGIN_CORE, SERVER_CORE = 0, 1, -1  # the last core is for the server under test
HINTS = {
    "nginx": "apt-get install nginx-light",
    "varnish": "apt-get install varnish",
    "envoy": "pip install -r requirements/dev.txt",
}
_NGINX = """
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
  access_log {folder}/nginx-access.log combined buffer=64k flush=1s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:64m max_size=4g inactive=1h use_temp_path=off;
  sendfile {sendfile}; keepalive_requests 1000000000; keepalive_timeout 600s;
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port}{tls} backlog=4096;
    {certificate}
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache bench; proxy_cache_key $uri$is_args$args; add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""
_VCL = """vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "%d"; }
"""
_ENVOY_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
_ENVOY_HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ENVOY_CACHE = "type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig"
_ENVOY_MEMORY = "type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"
_ENVOY_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server that runs: where it listens, and the processes whose time counts."""

    name: str
    port: int
    pids: tuple[int, ...]


def core(number: int) -> str:
    """The number of a core that this process may use, for taskset."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[number % len(cores)])


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in socks]


@contextlib.contextmanager
def running(command: list[str], port: int | None, on_core: int | str) -> Iterator[int]:
    """Run a server on a core until the block ends; yields its process id when it answers on the port."""
    cores = on_core if isinstance(on_core, str) else core(on_core)
    process = subprocess.Popen(
        ["taskset", "-c", cores, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(400):
            if port is None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{command[0]} does not answer")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_s(pid: int) -> float:
    """The processor time that a process and its children have used."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(child) for child in children)


def memory_bytes(pid: int) -> int:
    """What a process and its children have in memory of their own (proportional set size)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 + sum(memory_bytes(int(child)) for child in children)
    raise RuntimeError("the kernel does not say")


@contextlib.contextmanager
def nearpoint(
    folder: Path, origin_port: int, *, workers: int = 1, on_core: int | str = SERVER_CORE, more: str = ""
) -> Iterator[Subject]:
    """`nearpoint edge`; `more` are further options."""
    (port,) = free_ports(1)
    program = (
        "import pathlib, sys; from nearpoint.cli.edge import Options, run_edge; "
        "sys.exit(run_edge(Options(listen=sys.argv[1], origin=sys.argv[2], access_log=pathlib.Path(sys.argv[3]), "
        f"cache_mb=1024, cache_dir=pathlib.Path(sys.argv[4]), cache_gb=4, workers={workers}, {more})))"
    )
    command = [sys.executable, "-c", program, f"127.0.0.1:{port}", f"http://127.0.0.1:{origin_port}"]
    command += [str(folder / f"edge-{port}.log"), str(folder / f"edge-{port}")]
    with running(command, port, on_core) as pid:
        yield Subject(name="nearpoint", port=port, pids=(pid,))


@contextlib.contextmanager
def nginx(
    folder: Path,
    origin_port: int,
    *,
    workers: int = 1,
    on_core: int | str = SERVER_CORE,
    certificate: tuple[Path, Path] | None = None,
    sendfile: bool = True,
) -> Iterator[Subject | None]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    own = folder / f"nginx-{port}"
    own.mkdir(mode=0o755)
    tls = "" if certificate is None else " ssl http2"
    files = "" if certificate is None else f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"
    config = own / "nginx.conf"
    config.write_text(
        _NGINX.format(
            folder=own,
            port=port,
            origin_port=origin_port,
            workers=workers,
            tls=tls,
            certificate=files,
            sendfile="on" if sendfile else "off",
        )
    )
    with running([program, "-p", str(own), "-c", str(config)], port, on_core) as pid:
        yield Subject(name="nginx" if sendfile else "nginx, no sendfile", port=port, pids=(pid,))


@contextlib.contextmanager
def varnish(folder: Path, origin_port: int) -> Iterator[Subject | None]:
    program = shutil.which("varnishd") or shutil.which("varnishd", path="/usr/sbin")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    own = folder / f"varnish-{port}"
    vcl = folder / "default.vcl"
    vcl.write_text(_VCL % origin_port)
    command = [program, "-F", "-n", str(own), "-a", f"127.0.0.1:{port}", "-f", str(vcl), "-s", "malloc,1g"]
    command += ["-j", "none", "-p", "thread_pools=1", "-p", "thread_pool_min=80", "-p", "thread_pool_max=200"]
    command += ["-p", "timeout_idle=600", "-T", "none"]
    with running(command, port, SERVER_CORE) as pid:
        log = ["varnishncsa", "-n", str(own), "-w", str(folder / "varnish.log")]
        with running(log, None, SERVER_CORE) as log_pid:
            yield Subject(name="varnish", port=port, pids=(pid, log_pid))


@contextlib.contextmanager
def envoy(folder: Path, origin_port: int, *, stores: bool = True) -> Iterator[Subject | None]:
    beside = Path(sys.executable).parent / "envoy"
    program = str(beside) if beside.exists() else shutil.which("envoy")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    config = folder / f"envoy-{port}.json"
    config.write_text(json.dumps(_envoy_config(port, origin_port, folder / f"envoy-{port}.log", stores=stores)))
    command = [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with running(command, port, SERVER_CORE) as pid:
        yield Subject(name="envoy" if stores else "envoy, not stored", port=port, pids=(pid,))


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_config(port: int, origin_port: int, log: Path, *, stores: bool) -> dict[str, object]:
    cache = {"@type": _ENVOY_CACHE, "typed_config": {"@type": _ENVOY_MEMORY}}
    router = {"name": "router", "typed_config": {"@type": _ENVOY_ROUTER}}
    manager = {
        "@type": _ENVOY_HTTP,
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "access_log": [{"name": "file", "typed_config": {"@type": _ENVOY_LOG, "path": str(log)}}],
        "http_filters": [{"name": "cache", "typed_config": cache}, router] if stores else [router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": _address(origin_port)}}
    return {
        "static_resources": {
            "listeners": [{"name": "in", "address": _address(port), "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "origin",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }
