"""A real browser loads a small site from the nearest bucket, over HTTPS and HTTP/2, through the edge."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Nearpoint</title>
<link rel="stylesheet" href="/site.css"><h1>Hello from the nearest bucket</h1><img src="/dot.svg" alt="">
<p id="told">no script yet</p><script src="/site.js"></script>"""
STYLE = "body { font: 24px sans-serif; background: #eef; } h1 { color: #226; }"
SCRIPT = """
const told = document.getElementById("told"), style = getComputedStyle(document.querySelector("h1")).color;
const dot = document.querySelector("img");
fetch("/data.json").then(r => r.json()).then(data => {
  const by = performance.getEntriesByType("resource").map(e => e.nextHopProtocol);
  told.textContent = [data.region, style, dot.naturalWidth, ...new Set(by)].join(" | ");
});
"""
DOT = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle cx="20" cy="20" r="18" fill="#c33"/></svg>'
)


def test_a_browser_sees_the_whole_site(stack: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    files = {"index.html": PAGE, "site.css": STYLE, "site.js": SCRIPT, "dot.svg": DOT, "data.json": '{"region": "%s"}'}
    for region, bucket in stack.buckets.items():
        for name, content in files.items():
            (site / name).write_text(content.replace("%s", region))
        stack.world.shell(region, f"aws s3 cp --quiet --recursive {site} s3://{bucket}/")
    host = stack.url.removeprefix("https://")
    ports = json.loads((stack.world.data / "world.json").read_text())["ports"]
    assert CHROMIUM is not None
    seen = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
            f"--user-data-dir={tmp_path / 'profile'}", "--ignore-certificate-errors", "--virtual-time-budget=15000",
            f"--host-resolver-rules=MAP {host}:443 127.0.0.1:{ports['node.FRA.https']}",
            f"--screenshot={tmp_path / 'site.png'}", "--window-size=640,320", "--dump-dom", f"{stack.url}/",
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert '<p id="told">eu-west-1 | rgb(34, 34, 102) | 40 | h2</p>' in seen.stdout, seen.stdout + seen.stderr
    assert (tmp_path / "site.png").stat().st_size > 1000
    # Left as it was, for the other tests of this world.
    for region, bucket in stack.buckets.items():
        stack.world.shell(region, f"echo -n '{stack.hello(region)}' | aws s3 cp - s3://{bucket}/index.html")
