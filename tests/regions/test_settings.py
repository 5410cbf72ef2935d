"""`nearpoint.toml`: what it means, and that every mistake is named with its line and path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nearpoint.regions import settings_file
from nearpoint.regions.profiles import ProfileCredentials, Profiles
from nearpoint.regions.settings import SettingsError, load, renewed
from nearpoint.regions.toml_lines import Lines, parse_path, show_path

WHOLE = """\
account-id = "210987654321"
location = "fra"

[listen]
http = ["127.0.0.1:8600", "[::1]:8600"]
https = [":8443"]
admin = ""
certificate = "tls.pem"
key = "tls.pem"

[timeouts]
idle = 5

[[regions]]
name = "eu-west-1"
endpoint = "https://s3.example.net/base"
signing-region = "garage"
addressing = "virtual"
location = "Dublin"
credentials = { access-key-id = "AK", secret-key = "SK", session-token = "T" }

[[regions]]
name = "us-east-1"
endpoint = "http://127.0.0.1:9000"
credentials = { access-key-id-env = "US_KEY", secret-key-env = "US_SECRET" }

[[regions]]
name = "r3"
endpoint = "http://127.0.0.1:9001"
[regions.credentials]
profile = "third"

[[access-points]]
name = "my-photos"
aws-parity = true
domains = ["Photos.example.com"]
policy = "policy.json"
members = [
  { region = "eu-west-1", bucket = "photos-eu" },
  { region = "us-east-1", bucket = "photos-us", dial = 0 },
]

[[access-points]]
name = "other"
alias = "xyz.mrap"
[[access-points.members]]
region = "r3"
bucket = "others"

[[access-keys]]
access-key-id = "CLIENT"
secret-key-env = "CLIENT_SECRET"

[[access-keys]]
access-key-id = "READER"
secret-key = "r"
user = "reader"
policy = "policy.json"
"""
ENVIRON = {"US_KEY": "UK", "US_SECRET": "US", "CLIENT_SECRET": "CS"}
POLICY = {"Version": "2012-10-17", "Statement": []}


def _profile(name: str) -> ProfileCredentials:
    if name != "third":
        raise LookupError(f"the AWS profile {name!r} cannot be used: no such profile")
    return ProfileCredentials(access_key_id="PK", secret_key="PS", session_token="PT")


def _load(folder: Path, text: str) -> Any:
    file = folder / "nearpoint.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    (folder / "policy.json").write_text(json.dumps(POLICY))
    (folder / "list.json").write_text("[]")
    (folder / "tls.pem").write_text("pem")
    return load(file, environ=ENVIRON, find_profile=_profile)


def test_a_whole_file(tmp_path: Path) -> None:
    settings = _load(tmp_path, WHOLE)
    assert (settings.account_id, settings.location, settings.admin) == ("210987654321", "fra", None)
    assert settings.http == (("127.0.0.1", 8600), ("::1", 8600))
    assert settings.https == (("0.0.0.0", 8443),)
    assert settings.certificate == settings.key == tmp_path / "tls.pem"
    assert (settings.timeouts.idle, settings.timeouts.header) == (5, 10)
    first, second, third = settings.regions
    assert (first.spec.addressing, first.spec.signing_region, first.spec.session_token) == ("virtual", "garage", "T")
    assert first.location == "Dublin"
    assert (second.spec.access_key_id, second.spec.secret_key, second.spec.signing_region) == ("UK", "US", "us-east-1")
    assert (third.spec.access_key_id, third.spec.session_token, third.profile) == ("PK", "PT", "third")
    photos, other = settings.access_points
    assert (photos.alias, photos.domains, photos.policy) == ("myphotos.mrap", ("photos.example.com",), POLICY)
    assert photos.aws_parity
    assert photos.members == (("eu-west-1", "photos-eu", 100), ("us-east-1", "photos-us", 0))
    assert (other.alias, other.members, other.aws_parity) == ("xyz.mrap", (("r3", "others", 100),), False)
    client, reader = settings.access_keys
    assert (client.access_key_id, client.secret_key, client.user) == ("CLIENT", "CS", None)
    assert (reader.user, reader.policy) == ("reader", POLICY)
    assert settings.warnings == ()
    assert "CS" not in repr(settings)
    assert "'SK'" not in repr(settings)


def test_a_file_with_secrets_that_all_may_read(tmp_path: Path) -> None:
    _load(tmp_path, WHOLE)
    (tmp_path / "nearpoint.toml").chmod(0o644)
    settings = load(tmp_path / "nearpoint.toml", environ=ENVIRON, find_profile=_profile)
    assert "chmod 600" in settings.warnings[0]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('location = "fra"', "location = ", ":2: not TOML: Invalid value (at line 2, column 12)"),
        ('location = "fra"', "locaton = 'x'", ":2: locaton: there is no such key; did you mean 'location'?"),
        ("idle = 5", "ilde = 5", ":12: timeouts.ilde: there is no such key; did you mean 'idle'?"),
        ("idle = 5", "idle = 0", ":12: timeouts.idle: has to be more than 0 and at most 3600 seconds"),
        ("idle = 5", "idle = 'x'", ":12: timeouts.idle: expected `float`, got `str`"),
        ("[regions.credentials]", "[regions.credential]", ":30: regions[2].credential: there is no such key; did you"),
        ('bucket = "others"', "", ":46: access-points[1].members[0]: 'bucket' is missing"),
        ('"210987654321"', '"21"', ":1: account-id: '21' is not 12 digits"),
        ('"127.0.0.1:8600", ', '"127.0.0.1", ', ":5: listen.http: '127.0.0.1' is not HOST:PORT"),
        ('key = "tls.pem"', "", ":6: listen.https: https needs both a certificate and a key file"),
        ('key = "tls.pem"', 'key = "no.pem"', "listen.key: "),
        ('name = "us-east-1"', 'name = "eu-west-1"', ":23: regions[1].name: 'eu-west-1' is given twice"),
        ('name = "us-east-1"', 'name = "US east"', ":23: regions[1].name: 'US east' is not a name of"),
        ('"https://s3', '"s3', ":16: regions[0].endpoint: endpoint 's3.example.net/base' is not http[s]://host"),
        ('secret-key = "SK", ', "", ":20: regions[0].credentials: needs secret-key or secret-key-env"),
        ('secret-key = "SK"', 'secret-key = ""', ":20: regions[0].credentials.secret-key: is empty"),
        ("US_SECRET", "NOT_SET", "regions[1].credentials.secret-key-env: the environment variable NOT_SET is not set"),
        ('"virtual"', '"host"', ":18: regions[0].addressing: invalid enum value 'host'"),
        ('profile = "third"', 'profile = "none"', ":31: regions[2].credentials.profile: the AWS profile 'none' cannot"),
        ('profile = "third"', "", ":30: regions[2].credentials: needs access-key-id and secret-key"),
        ('profile = "third"', 'profile = "third"\nsecret-key = "x"', "a profile brings its own keys"),
        ('"my-photos"', '"-x"', ":34: access-points[0].name: '-x' is not 3 to 50"),
        ('"my-photos"', '"1photos"', ":34: access-points[0].name: '1photos.mrap' is not an alias"),
        ('"xyz.mrap"', '"xyz"', ":45: access-points[1].alias: 'xyz' is not an alias"),
        ('"xyz.mrap"', '"myphotos.mrap"', ":45: access-points[1].alias: 'myphotos.mrap' is given twice"),
        ('"Photos.example.com"', '"a b"', ":36: access-points[0].domains: 'a b' is not a host name"),
        ('region = "r3"', 'region = "r4"', ":47: access-points[1].members[0].region: there is no region 'r4'"),
        ('region = "us-east-1", b', 'region = "eu-west-1", b', "members[1].region: 'eu-west-1' has a member already"),
        (
            "aws-parity = true",
            "aws-parity = true\nhedge-reads = true",
            ":36: access-points[0].hedge-reads: AWS does not",
        ),
        ("dial = 0", "dial = 101", "members[1].dial: 101 is not between 0 and 100"),
        ('bucket = "others"', 'bucket = "others"\ndial = 0', "members: every dial is 0"),
        ('bucket = "others"', 'bucket = "a/b"', ":48: access-points[1].members[0].bucket: 'a/b' is not a bucket name"),
        ('= "policy.json"\nm', '= "no.json"\nm', ":37: access-points[0].policy: "),
        ('= "policy.json"\nm', '= "tls.pem"\nm', "tls.pem is not JSON"),
        ('= "policy.json"\nm', '= "list.json"\nm', "list.json is not a policy"),
        ('"READER"', '"CLIENT"', ":55: access-keys[1].access-key-id: 'CLIENT' is given twice"),
        ('"READER"', '"a/b"', ":55: access-keys[1].access-key-id: has to be 3 to 128"),
        ('user = "reader"', "", "access-keys[1].policy: a policy needs a user"),
        ('user = "reader"', 'user = "r/"', "access-keys[1].user: 'r/' is not a user name"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in WHOLE
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, WHOLE.replace(old, new, 1))
    assert expected in str(caught.value).splitlines()[0]
    assert str(caught.value).startswith(str(tmp_path / "nearpoint.toml"))


def test_all_mistakes_are_said_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, "regions = []\naccess-points = []\naccess-keys = []\n")
    assert [each.path for each in caught.value.mistakes] == ["regions", "access-points", "access-keys"]


@pytest.mark.parametrize("data", [b"\xff", b"a" * 1_048_577])
def test_what_is_no_file_of_ours(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(SettingsError):
        load(tmp_path / "x.toml")


def test_paths_and_lines() -> None:
    assert parse_path("$.access-points[1].members[0]") == ("access-points", 1, "members", 0)
    assert show_path(("access-points", 1, "members", 0)) == "access-points[1].members[0]"
    lines = Lines('[[a]]\nx = 1\n[[a]]\n[a.b]\n"y z" = 1\n[[a.c]]\n[[a.c]]\nk = 1\n')
    assert lines.find(("a", 0, "x")) == 2
    assert lines.find(("a", 1, "b", "y z")) == 5
    assert lines.find(("a", 1, "c", 1, "k")) == 8
    assert lines.find(("a", 1, "c", 1, "other")) == 7
    assert lines.find(("none",)) is None


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "nearpoint-toml.md"


def test_the_reference_has_every_key() -> None:
    text = REFERENCE.read_text()
    for table in settings_file.TABLES.values():
        for name in table.__struct_encode_fields__:
            assert f"`{name}`" in text or f"`[{name}]`" in text or f"`[[{name}]]`" in text, name


def test_the_references_example_is_right(tmp_path: Path) -> None:
    example = REFERENCE.read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "reader.json").write_text(json.dumps(POLICY))
    (tmp_path / "nearpoint.toml").write_text(example)
    environ = dict.fromkeys(("DUBLIN_KEY", "DUBLIN_SECRET", "PHOTOS_SECRET", "READER_SECRET"), "value")
    settings = load(
        tmp_path / "nearpoint.toml",
        environ=environ,
        find_profile=lambda _: ProfileCredentials(access_key_id="a", secret_key="b"),
    )
    assert [one.alias for one in settings.access_points] == ["photos.mrap"]


def test_profiles_come_from_botocore_and_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[third]\naws_access_key_id = A\naws_secret_access_key = B\n[bare]\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    profiles = Profiles()
    assert profiles("third") == ProfileCredentials(access_key_id="A", secret_key="B", session_token=None)
    for name in ("bare", "missing"):
        with pytest.raises(LookupError, match=f"the AWS profile '{name}'"):
            profiles(name)
    settings = _load(tmp_path, WHOLE)
    now = renewed(settings, profiles)
    assert [region.spec.access_key_id for region in now.regions] == ["AK", "UK", "A"]
    assert renewed(now, profiles) == now
