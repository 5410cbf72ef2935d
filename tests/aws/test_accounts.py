"""The wrong account is noticed before anything is done in it: against moto, which has several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest

from nearpoint.aws import record
from nearpoint.aws.accounts import Accounts, of_this_user
from nearpoint.aws.application import load
from nearpoint.aws.clients import Clients
from nearpoint.aws.delete import delete
from nearpoint.aws.deploy import Request, deploy
from nearpoint.aws.errors import DeployError
from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.target import check_account, sentences

pytest.importorskip("openapi_spec_validator", reason="moto's CloudFormation is not installed: moto[cloudformation]")
pytest.importorskip("moto")

OURS, THEIRS = "123456789012", "111122223333"
Write = Callable[..., Path]
Watch = Callable[..., Any]


@pytest.fixture
def of_another_account(clients: Clients, tmp_path: Path) -> Clients:
    """Clients of THEIRS; both accounts are remembered in one place."""
    clients.accounts = Accounts(tmp_path / "state" / "aws")
    role = f"arn:aws:iam::{THEIRS}:role/deploys"
    keys = clients.client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], "us-east-1")
    other = Clients(target="aws", session=session, accounts=clients.accounts)
    assert other.identity().account_id == THEIRS
    return other


def request(path: Path) -> Request:
    return Request(application=load(path), stack="app", regions=("us-east-1", "eu-west-1"))


def test_a_stack_that_is_in_another_account(
    clients: Clients, of_another_account: Clients, template: Write, watcher: Watch
) -> None:
    for each in (clients, of_another_account):
        each.check_account(None, "app")  # nobody knows it yet
    deploy(clients, request(template()), watcher())
    clients.check_account(None, "app")
    words = f"deployed from here into account {OURS}, and .* {THEIRS} "
    with pytest.raises(CommandError, match=words) as refused, sentences():
        check_account(of_another_account, None, "app")
    assert refused.value.code == Exit.REFUSED
    assert f"say --account {THEIRS}" in str(refused.value)
    check_account(of_another_account, None, "other")
    check_account(of_another_account, THEIRS, "app")  # that account is meant
    deploy(of_another_account, request(template()), watcher())
    assert clients.accounts.of("app") == [THEIRS, OURS]
    check_account(of_another_account, None, "app")

    delete(clients, "app", watcher())
    assert clients.accounts.of("app") == [THEIRS]
    with pytest.raises(DeployError, match="Nothing was done"):
        clients.check_account(None, "app")
    delete(of_another_account, "app", watcher())
    clients.check_account(None, "app")


def test_the_account_that_is_named(clients: Clients, of_another_account: Clients) -> None:
    check_account(clients, OURS, "app")
    words = f"--account says {OURS}, and .* of account {THEIRS} "
    with pytest.raises(CommandError, match=words) as refused, sentences():
        check_account(of_another_account, OURS, "app")
    assert refused.value.code == Exit.REFUSED
    for account in ("12345678901", "1234-5678-9012", "12345678901\N{SUPERSCRIPT TWO}", ""):
        with pytest.raises(CommandError, match="12 digits") as wrong:
            check_account(clients, account)
        assert wrong.value.code == Exit.USAGE
    local = Clients(target="local", session=clients.session)
    check_account(local, None, "app")
    with pytest.raises(CommandError, match="--target aws"):
        check_account(local, OURS)


def test_a_record_of_another_account(clients: Clients, template: Write, watcher: Watch) -> None:
    deploy(clients, request(template()), watcher())
    known = record.read(clients, "app")
    assert known is not None
    assert known.account == OURS
    record.write(clients, msgspec.structs.replace(known, account=""))  # as it was written before accounts were
    deploy(clients, request(template()), watcher())
    assert record.read(clients, "app") == known
    record.write(clients, msgspec.structs.replace(known, account=THEIRS))
    for command in (lambda: deploy(clients, request(template()), watcher()), lambda: delete(clients, "app", watcher())):
        with pytest.raises(DeployError, match=f"is of account {THEIRS}, as s3://app-{OURS}-deployment") as refused:
            command()
        assert refused.value.refused


def test_nothing_is_remembered_of_what_was_not_made(clients: Clients, template: Write, watcher: Watch) -> None:
    of_another = Accounts(template().parent / "state")
    clients.accounts = of_another
    with pytest.raises(DeployError, match="Nothing was made"):
        deploy(clients, request(template()), watcher(agrees=False))
    assert of_another.of("app") == []


def test_where_it_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kept = of_this_user()
    kept.add("app", OURS)
    kept.add("app-2", THEIRS)
    assert of_this_user().of("app") == [OURS]
    assert sorted(path.name for path in tmp_path.rglob("app*")) == [f"app-2.{THEIRS}", f"app.{OURS}"]
    for stack in ("", "..", "../nearpoint/aws/app", "app-2.1"):
        assert kept.of(stack) == []
        kept.forget(stack, OURS)
    kept.forget("app", OURS)
    kept.forget("app", OURS)
    assert kept.of("app") == []


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    nowhere = Accounts(tmp_path / "file" / "below")
    nowhere.add("app", OURS)
    assert nowhere.of("app") == []
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert of_this_user().of("app") == []
