"""`nearpoint accesspoint` as a process: what it checks, says, logs, takes over while it runs, and survives."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

NEARPOINT = str(Path(sys.executable).parent / "nearpoint")
READER_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": ["arn:aws:s3::123456789012:accesspoint/*", "arn:aws:s3:::*"],
        }
    ],
}
READER = '[[access-keys]]\naccess-key-id = "READER"\nsecret-key = "r"\nuser = "reader"\npolicy = "reader.json"\n'


def _nearpoint(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NEARPOINT, *arguments], capture_output=True, text=True, timeout=60, cwd=folder, check=False)


def _until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _access_lines(front: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in front.log.read_text().splitlines() if line.startswith('{"at"')]
    return [line for line in lines if line["path"] != "/"]


def test_a_check_shows_what_stores_lack(tmp_path: Path, make_settings: Any, near: Any, weed: Any, rclone: Any) -> None:
    (tmp_path / "nearpoint.toml").write_text(make_settings({"all": [near, weed, rclone]}))
    done = _nearpoint("accesspoint", "--check", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    stores = {one["region"]: one for one in json.loads(done.stdout)["stores"]}
    assert list(stores) == ["eu-west-1", "weed-1", "rclone-1"]
    lacks = {
        region: {each["feature"] for each in one["findings"] if each["verdict"] == "no"}
        for region, one in stores.items()
    }
    assert lacks["eu-west-1"] == {"versioning", "ACLs", "object lock", "customer keys"}
    assert lacks["rclone-1"] >= {"conditional create", "ranges"}
    remedies = {each["feature"]: each["remedy"] for each in stores["rclone-1"]["findings"]}
    assert (remedies["conditional create"], remedies["ranges"], remedies["multipart"]) == ("refuse", "mend", "")
    shown = _nearpoint("accesspoint", "--check", folder=tmp_path).stdout
    assert "refused here" in " ".join(shown.split())
    assert "store-secret" not in done.stdout + done.stderr


def test_a_check_of_stores_that_give_no_access(tmp_path: Path, make_settings: Any, near: Any) -> None:
    text = make_settings({"one": [near]}).replace("store-secret", "wrong")
    (tmp_path / "nearpoint.toml").write_text(text)
    done = _nearpoint("accesspoint", "--check", folder=tmp_path)
    assert done.returncode == 4
    assert "SignatureDoesNotMatch" in "".join(done.stdout.split())
    assert "No access to data-eu-west-1 in eu-west-1" in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (None, 2, "There is no nearpoint.toml"),
        ("x = [regions.y]", 2, "not TOML"),
        ("[listn]\n", 2, "nearpoint.toml"),
        ("policy", 2, "access-keys[1].policy: not a policy"),
        ("certificate", 2, "are not a certificate and its key"),
        ("taken", 1, "Address already in use"),
    ],
)
def test_what_keeps_it_from_starting(
    tmp_path: Path, make_settings: Any, near: Any, text: str | None, code: int, said: str
) -> None:
    (tmp_path / "reader.json").write_text("{}")
    (tmp_path / "pem").write_text("no pem")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if text == "policy":
            text = make_settings({"one": [near]}, keys=READER)
        elif text in ("certificate", "taken"):
            more = 'https = ["127.0.0.1:0"]\ncertificate = "pem"\nkey = "pem"'
            if text == "taken":
                more = f'https = []\nhttp = ["127.0.0.1:{taken.getsockname()[1]}"]'
            text = make_settings({"one": [near]}).replace('http = ["127.0.0.1:0"]', more)
        if text is not None:
            (tmp_path / "nearpoint.toml").write_text(text)
        done = _nearpoint("accesspoint", folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_line_for_each_request(front: Any) -> None:
    s3 = front.client()
    s3.put_object(Bucket="embedded.mrap", Key="logged/é", Body=b"12345")
    s3.get_object(Bucket="embedded.mrap", Key="logged/é")["Body"].read()
    url = s3.generate_presigned_url(
        "get_object", {"Bucket": "embedded.mrap", "Key": "logged/é", "ResponseContentType": "a/b"}
    )
    import urllib.request

    urllib.request.urlopen(url).read()
    _until(lambda: len([line for line in _access_lines(front) if "logged" in line["path"]]) == 3)
    put, got, presigned = (line for line in _access_lines(front) if "logged" in line["path"])
    assert (put["method"], put["status"], put["bytes"], put["region"]) == ("PUT", 200, 0, "eu-west-1")
    assert (got["method"], got["status"], got["bytes"], got["path"]) == (
        "GET", 200, 5, "/embedded.mrap/logged/%C3%A9",
    )  # fmt: skip
    assert (presigned["query"], presigned["access_key_id"]) == ("response-content-type=a%2Fb", "CLIENT")
    assert all(line["request_id"] and line["complete"] and line["client"] == "127.0.0.1" for line in (put, got))
    assert "Signature=" not in front.log.read_text()
    assert "client-secret" not in front.log.read_text()


def test_health_and_what_is_known(front: Any) -> None:
    assert front.admin_get("/-/live") == (200, {"live": True})
    assert front.admin_get("/-/ready") == (200, {"ready": True, "blocks": []})
    routes = front.admin_get("/-/routes")[1]
    assert {row["region"] for row in routes["access_points"]["both.mrap"]["routes"]} == {"eu-west-1", "us-east-1"}
    _until(lambda: len(front.admin_get("/-/capabilities")[1]) == 6)
    assert {one["access"] for one in front.admin_get("/-/capabilities")[1]} == {"read-write"}
    assert front.admin_get("/-/none")[0] == 404


def test_ready_names_what_blocks(tmp_path: Path, make_settings: Any, start_front: Any, near: Any, far: Any) -> None:
    text = make_settings({"both": [near, far], "lost": [far]}).replace(far.endpoint, "http://127.0.0.1:1")
    with start_front(tmp_path, text, "--workers", "2", ready=False) as front:
        passing = ("measured", "being found out")  # what blocks only until it is known
        _until(lambda: not any(word in str(front.admin_get("/-/ready")[1]["blocks"]) for word in passing))
        status, answer = front.admin_get("/-/ready")
        assert (status, answer["ready"], len(answer["blocks"])) == (503, False, 1)
        assert answer["blocks"][0].startswith("access point lost: no active region answers (us-east-1: ")
        front.client().put_object(Bucket="both.mrap", Key="k", Body=b"x")


def test_keys_are_looked_for_elsewhere_but_with_parity(
    tmp_path: Path, make_settings: Any, start_front: Any, near: Any, far: Any
) -> None:
    text = make_settings({"both": [near, far], "strict": [near, far]})
    text = text.replace('name = "strict"\n', 'name = "strict"\naws-parity = true\n')
    with start_front(tmp_path, text) as front:
        s3 = front.client()
        for store in (near, far):
            store.client().put_object(Bucket=store.bucket, Key=f"only in {store.region}", Body=b"x")
        names = [f"only in {store.region}" for store in (near, far)]
        assert [s3.get_object(Bucket="both.mrap", Key=name)["Body"].read() for name in names] == [b"x", b"x"]
        found = []
        for name in names:
            try:
                found.append(s3.get_object(Bucket="strict.mrap", Key=name)["ContentLength"])
            except s3.exceptions.NoSuchKey:
                found.append(None)
        assert sorted(found, key=str) == [1, None]


def test_a_changed_file(tmp_path: Path, make_settings: Any, start_front: Any, near: Any, far: Any) -> None:
    (tmp_path / "reader.json").write_text(json.dumps(READER_POLICY))
    with start_front(tmp_path, make_settings({"photos": [near]}), "--workers", "2") as front:
        s3 = front.client()
        s3.put_object(Bucket="photos.mrap", Key="k", Body=b"x")

        def change(text: str, wait_for: str) -> None:
            times = front.log.read_text().count(wait_for)
            front.config.write_text(text)
            front.process.send_signal(signal.SIGHUP)
            expected = times + (1 if "not taken" in wait_for else 2)
            _until(lambda: front.log.read_text().count(wait_for) >= expected)

        change("nonsense", "is not taken")
        assert s3.get_object(Bucket="photos.mrap", Key="k")["Body"].read() == b"x"

        change(make_settings({"photos": [near], "more": [far]}, keys=READER), "running by the changed file")
        front.wait_ready()
        s3.put_object(Bucket="more.mrap", Key="k", Body=b"y")
        reader = front.client(aws_access_key_id="READER", aws_secret_access_key="r")
        assert reader.get_object(Bucket="more.mrap", Key="k")["Body"].read() == b"y"
        with pytest.raises(reader.exceptions.ClientError, match=r"AccessDenied.*user/reader.*s3:PutObject"):
            reader.put_object(Bucket="more.mrap", Key="k", Body=b"z")
        with pytest.raises(reader.exceptions.ClientError, match=r"AccessDenied.*s3:ListAllMyBuckets"):
            reader.list_buckets()

        change(make_settings({"more": [far]}), "running by the changed file")
        with pytest.raises(s3.exceptions.ClientError, match="NoSuchAccessPoint"):
            s3.get_object(Bucket="photos.mrap", Key="k")
        with pytest.raises(s3.exceptions.ClientError, match="InvalidAccessKeyId"):
            reader.get_object(Bucket="more.mrap", Key="k")
        assert s3.get_object(Bucket="more.mrap", Key="k")["Body"].read() == b"y"
        assert "Traceback" not in front.log.read_text()


def test_forged_sessions_are_strangers(tmp_path: Path, front: Any) -> None:
    from nearpoint.state.sessions import mint

    for secret in ("", "x"):
        key, secret_key, token = mint(
            secret, role_arn="arn:aws:iam::123456789012:user/reader", session_name="s", expires_at=2**33,
            random_bytes=bytes(10),
        )  # fmt: skip
        s3 = front.client(aws_access_key_id=key, aws_secret_access_key=secret_key, aws_session_token=token)
        with pytest.raises(s3.exceptions.ClientError, match="InvalidToken"):
            s3.get_object(Bucket="both.mrap", Key="k")


def test_https(tmp_path: Path, make_settings: Any, start_front: Any, near: Any) -> None:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    more = 'https = ["127.0.0.1:0"]\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
    text = make_settings({"photos": [near]}).replace("[listen]\n", f"[listen]\n{more}")
    with start_front(tmp_path, text, "--access-log", "off") as front:
        url = next(line.split()[1] for line in front.log.read_text().splitlines() if "https://" in line)
        s3 = front.client(endpoint_url=url.replace("127.0.0.1", "localhost"), verify=str(tmp_path / "certificate.pem"))
        s3.put_object(Bucket="photos.mrap", Key="by tls", Body=b"x" * 100_000)
        assert s3.get_object(Bucket="photos.mrap", Key="by tls")["Body"].read() == b"x" * 100_000
        assert '"at"' not in front.log.read_text()
        s3.close()
        trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        with httpx.Client(http2=True, verify=trusted) as client:
            answer = client.get(url.replace("127.0.0.1", "localhost") + "/photos.mrap/key")
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 403)


def test_a_request_under_way_is_finished_before_it_ends(
    tmp_path: Path, make_settings: Any, start_front: Any, near: Any
) -> None:
    from threading import Event, Thread

    with start_front(tmp_path, make_settings({"photos": [near]}), "--access-log", str(tmp_path / "requests")) as front:
        reading, stopped = Event(), Event()

        class Slow:
            def __init__(self) -> None:
                self.left = 10

            def read(self, size: int = -1) -> bytes:
                if self.left == 5:
                    reading.set()
                    stopped.wait(10)
                    time.sleep(0.2)
                self.left -= 1
                return b"x" * 100_000 if self.left >= 0 else b""

        url = front.client().generate_presigned_url("put_object", {"Bucket": "photos.mrap", "Key": "slow"})
        statuses: list[int] = []

        def put() -> None:
            import http.client

            connection = http.client.HTTPConnection(front.url.removeprefix("http://"), timeout=20)
            connection.request("PUT", url.removeprefix(front.url), Slow(), {"Content-Length": "1000000"})
            statuses.append(connection.getresponse().status)

        thread = Thread(target=put)
        thread.start()
        assert reading.wait(10)
        front.process.send_signal(signal.SIGTERM)
        stopped.set()
        thread.join(20)
        assert statuses == [200]
        assert front.process.wait(15) == 0
    assert near.client().head_object(Bucket=near.bucket, Key="slow")["ContentLength"] == 1_000_000
    assert json.loads((tmp_path / "requests").read_text().splitlines()[-1])["path"] == "/photos.mrap/slow"


def test_a_region_that_goes_away(tmp_path: Path, make_settings: Any, start_front: Any, near: Any, far: Any) -> None:
    import os

    with start_front(tmp_path, make_settings({"both": [near, far]}), "--workers", "1") as front:
        s3 = front.client()
        for store in (near, far):
            store.client().put_object(Bucket=store.bucket, Key="everywhere", Body=b"same")
        chosen = front.admin_get("/-/routes")[1]["access_points"]["both.mrap"]["chosen"]
        gone = near if chosen == near.region else far
        os.kill(gone.process.pid, signal.SIGSTOP)
        try:
            answers = [s3.get_object(Bucket="both.mrap", Key="everywhere") for _ in range(5)]
            regions = {each["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"] for each in answers}
            assert {each["Body"].read() for each in answers} == {b"same"}
            assert gone.region not in regions
            assert front.admin_get("/-/ready")[0] == 200
        finally:
            os.kill(gone.process.pid, signal.SIGCONT)


def test_a_killed_worker_is_replaced(tmp_path: Path, make_settings: Any, start_front: Any, near: Any) -> None:
    import os

    with start_front(tmp_path, make_settings({"photos": [near]}), "--workers", "2") as front:
        children = Path(f"/proc/{front.process.pid}/task/{front.process.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[0]), signal.SIGKILL)
        _until(lambda: "a new one begins" in front.log.read_text())
        _until(lambda: front.admin_get("/-/ready")[0] == 200)
        front.client().put_object(Bucket="photos.mrap", Key="after", Body=b"x")


def test_aws_data_speaks_json(tmp_path: Path) -> None:
    done = _nearpoint("aws-data", "data", "--json", folder=tmp_path)
    assert done.returncode == 0
    files = json.loads(done.stdout)["files"]
    assert {Path(file).parts[-3] for file in files} == {"s3", "s3control"}
    assert all(json.loads(Path(file).read_text())["rules"] for file in files)
    (tmp_path / "file").touch()
    assert _nearpoint("aws-data", "file", folder=tmp_path).returncode == 1
