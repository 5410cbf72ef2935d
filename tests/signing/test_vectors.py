"""AWS's own signing test suite, header and query form, SigV4 and SigV4A.

Found in `$NEARPOINT_VECTORS`, or in `shared/vectors` beside the checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nearpoint.signing import (
    Claim,
    Credentials,
    Inspection,
    Message,
    SignatureError,
    canonical,
    ec,
    inspect_presign_v4,
    inspect_presign_v4a,
    inspect_v4,
    inspect_v4a,
    keys,
    read_claim,
    verify,
)

ROOT = Path(os.environ.get("NEARPOINT_VECTORS") or Path(__file__).parents[3] / "shared" / "vectors")
SUITE = ROOT / "aws-signing-test-suite"
FOUND = sorted(SUITE.glob("v4*/*/header-canonical-request.txt"))
CASES = [pytest.param(path.parent, id=f"{path.parent.parent.name}-{path.parent.name}") for path in FOUND]
FORMS = ["header", "query"]

pytestmark = pytest.mark.skipif(not FOUND, reason=f"AWS's signing test suite is not in {SUITE}")


class Case:
    """One folder of the suite."""

    def __init__(self, folder: Path, form: str) -> None:
        self._folder, self.form = folder, form
        self.v4a = folder.parent.name == "v4a"
        context: dict[str, Any] = json.loads((folder / "context.json").read_text())
        who = context["credentials"]
        self.added_later = bool(context.get("omit_session_token"))
        self.token: str | None = who.get("token")
        self.credentials = Credentials(
            who["access_key_id"], who["secret_access_key"], None if self.added_later else self.token
        )
        self.region: str = context["region"]
        self.service: str = context["service"]
        self.normalize: bool = context["normalize"]
        self.expires_s: int = context["expiration_in_seconds"]
        self.now = datetime.strptime(context["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        self.message, body = parse_request(self.read_raw("request.txt"))
        self.payload_hash = hashlib.sha256(body).hexdigest()
        if context["sign_body"] and form == "header":
            headers = [*self.message.headers, ("X-Amz-Content-Sha256", self.payload_hash)]
            self.message = Message(self.message.method, self.message.path, self.message.query, headers)

    def read_raw(self, name: str) -> str:
        return (self._folder / name).read_bytes().decode("latin-1").replace("\r\n", "\n")

    def read(self, name: str) -> str:
        return self.read_raw(f"{self.form}-{name}.txt")

    def sign(self) -> Inspection:
        common: dict[str, Any] = {"service": self.service, "now": self.now, "payload_hash": self.payload_hash}
        if self.form == "query":
            common["expires_s"] = self.expires_s
        if self.v4a:
            inspect: Any = inspect_presign_v4a if self.form == "query" else inspect_v4a
            return inspect(self.message, self.credentials, region_set=self.region, **common)  # type: ignore[no-any-return]
        inspect = inspect_presign_v4 if self.form == "query" else inspect_v4
        return inspect(self.message, self.credentials, region=self.region, **common)  # type: ignore[no-any-return]


def parse_request(text: str) -> tuple[Message, bytes]:
    head, _, body = text.partition("\n\n")
    first, *lines = head.rstrip("\n").split("\n")
    method, _, rest = first.partition(" ")
    path, _, query = rest.rpartition(" ")[0].partition("?")
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in {" ", "\t"}:
            name, value = headers.pop()
            headers.append((name, f"{value}\n{line}"))
        else:
            name, _, value = line.partition(":")
            headers.append((name, value))
    return Message(method, path, query, headers), body.encode("latin-1")


@pytest.fixture(params=CASES)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=FORMS)
def case(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    loaded = Case(folder, request.param)
    if not loaded.normalize:
        monkeypatch.setattr(canonical, "path_of_others", partial(canonical.path_of_others, normalize=False))
    return loaded


def test_signs_as_the_suite_does(case: Case) -> None:
    made = case.sign()
    assert made.canonical_request == case.read("canonical-request")
    assert made.string_to_sign == case.read("string-to-sign")
    if not case.v4a:
        assert made.signature == case.read("signature")
        return
    digest = hashlib.sha256(made.string_to_sign.encode("latin-1")).digest()
    key = json.loads(case.read_raw("public-key.json"))
    public = ec.public_key((int(key["X"], 16), int(key["Y"], 16)))
    assert public.verify(digest, bytes.fromhex(made.signature))
    assert public.verify(digest, bytes.fromhex(case.read("signature")))
    assert not public.verify(hashlib.sha256(digest).digest(), bytes.fromhex(made.signature))


def test_derives_the_key_of_the_suite() -> None:
    case = Case(SUITE / "v4a" / "get-vanilla", "header")
    key = json.loads(case.read_raw("public-key.json"))
    derived = keys.v4a_key(case.credentials.access_key_id, case.credentials.secret_key).public
    assert derived.point == (int(key["X"], 16), int(key["Y"], 16))


def test_verifies_what_the_suite_signed(case: Case) -> None:
    signed, body = parse_request(case.read("signed-request"))
    claim = read_claim(signed)
    assert isinstance(claim, Claim)
    assert claim.session_token == case.token
    if case.added_later and case.form == "query":
        # The token joined the query after signing, which only IoT allows.
        with pytest.raises(SignatureError, match="does not match"):
            check(case, signed, claim, body)
        return
    check(case, signed, claim, body)
    for wrong in (timedelta(days=-1), timedelta(seconds=case.expires_s + 1)):
        with pytest.raises(SignatureError):
            verify(claim, signed, case.credentials.secret_key, now=case.now + wrong, payload_hash=case.payload_hash)


def check(case: Case, signed: Message, claim: Claim, body: bytes) -> None:
    proved = verify(
        claim,
        signed,
        case.credentials.secret_key,
        now=case.now,
        region=case.region,
        service=case.service,
        payload_hash=hashlib.sha256(body).hexdigest(),
    )
    assert proved.canonical_request == case.read("canonical-request")
    assert proved.string_to_sign == case.read("string-to-sign")
