"""The peers of the access point's measurements, each on the core of the worker that it is compared with.

- envoy: signs every request with SigV4A (`aws_request_signing`) and proxies; verifies nothing. One worker thread.
- nginx: proxies to the store, one worker, nothing else; bodies pass through without being kept on disk.

A peer that is not installed yields None; `HINTS` of `bench.edge_peers` has the way to install it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.edge_peers import SERVER_CORE, Subject, free_ports, running

_TYPES = "type.googleapis.com/envoy.extensions.filters."
_NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0; keepalive_requests 1000000000;
  upstream store {{ server 127.0.0.1:{store_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://store; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


@contextlib.contextmanager
def envoy(folder: Path, store_port: int, access_key_id: str, secret_key: str) -> Iterator[Subject | None]:
    """Envoy in front of the store, signing with these credentials."""
    beside = Path(sys.executable).parent / "envoy"
    program = str(beside) if beside.exists() else shutil.which("envoy")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, store_port, access_key_id, secret_key)))
    command = [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with running(command, port, SERVER_CORE) as pid:
        yield Subject(name="envoy", port=port, pids=(pid,))


@contextlib.contextmanager
def nginx(folder: Path, store_port: int) -> Iterator[Subject | None]:
    """nginx in front of the store."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, store_port=store_port))
    with running([program, "-p", str(folder), "-c", str(config)], port, SERVER_CORE) as pid:
        yield Subject(name="nginx", port=port, pids=(pid,))


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_config(port: int, store_port: int, access_key_id: str, secret_key: str) -> dict[str, object]:
    key = {"access_key_id": access_key_id, "secret_access_key": secret_key}
    signing = {
        "@type": f"{_TYPES}http.aws_request_signing.v3.AwsRequestSigning",
        "service_name": "s3",
        "region": "*",
        "use_unsigned_payload": True,
        "signing_algorithm": "AWS_SIGV4A",
        "credential_provider": {"inline_credential": key},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "store"}}
    manager = {
        "@type": f"{_TYPES}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "http_filters": [
            {"name": "sign", "typed_config": signing},
            {"name": "router", "typed_config": {"@type": f"{_TYPES}http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": _address(store_port)}}
    cluster = {
        "name": "store",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "store", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "in", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
