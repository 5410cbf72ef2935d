"""`nearpoint aws-data DIR`: a botocore data folder with which access point ARNs go to a plain `--endpoint-url`.

botocore sends an access point's ARN to AWS whatever endpoint it is given, and puts the account in front of a custom
host for S3 Control. Both are decided by data, not code: the endpoint rules of the two services. The folder gets a copy
of the rules of the botocore that is installed, with those two decisions changed; everything else stays as it is.
`AWS_DATA_PATH` makes botocore, boto3 and the AWS CLI look there first.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nearpoint.cli.console import CommandError, notes, print_json

RULES = "endpoint-rule-set-1"
_GLOBAL_HOST = "https://{accessPointName}.accesspoint.s3-global."
_ENDPOINT_GIVEN: list[dict[str, Any]] = [
    {"fn": "isSet", "argv": [{"ref": "Endpoint"}]},
    {"fn": "parseURL", "argv": [{"ref": "Endpoint"}], "assign": "url"},
]
# The alias as a bucket in path style: no name has to resolve but the endpoint's own.
_PATH_STYLE = "{url#scheme}://{url#authority}{url#normalizedPath}{accessPointName}"
_ACCOUNT_IN_FRONT = "{url#scheme}://{AccountId}.{url#authority}{url#path}"

Rule = dict[str, Any]


class RulesError(ValueError):
    """The rules are not of the kind that this module knows how to change."""


def with_endpoint_for_arns(rules: Rule) -> Rule:
    """S3's endpoint rules, with an access point's ARN sent to a custom endpoint where one is given. Raises RulesError.

    The signature stays what the rules ask for: SigV4A for every region.
    """
    made: Rule = json.loads(json.dumps(rules))
    found = 0
    for siblings in _rule_lists(made):
        for at, rule in enumerate(siblings):
            if rule.get("type") == "endpoint" and str(rule["endpoint"].get("url", "")).startswith(_GLOBAL_HOST):
                siblings.insert(
                    at,
                    {
                        "conditions": [*_ENDPOINT_GIVEN, *rule["conditions"]],
                        "endpoint": {**rule["endpoint"], "url": _PATH_STYLE},
                        "type": "endpoint",
                    },
                )
                found += 1
                break
    if found != 1:
        raise RulesError(f"S3's endpoint rules name the global access point host {found} times, not once")
    return made


def without_account_in_front(rules: Rule) -> Rule:
    """S3 Control's endpoint rules, with a custom endpoint used as it is given. Raises RulesError."""
    made: Rule = json.loads(json.dumps(rules))
    found = 0
    for siblings in _rule_lists(made):
        for rule in siblings:
            if rule.get("type") == "endpoint" and rule["endpoint"].get("url") == _ACCOUNT_IN_FRONT:
                rule["endpoint"]["url"] = "{url#scheme}://{url#authority}{url#path}"
                found += 1
    if not found:
        raise RulesError("S3 Control's endpoint rules put no account in front of a custom endpoint")
    return made


def _rule_lists(rule: Rule) -> Iterator[list[Rule]]:
    rules = rule.get("rules")
    if isinstance(rules, list):
        yield rules
        for each in list(rules):
            yield from _rule_lists(each)


_CHANGES = (("s3", "2006-03-01", with_endpoint_for_arns), ("s3control", "2018-08-20", without_account_in_front))


def write(folder: Path) -> list[Path]:
    """Write the data folder, whole files or none, over what is there. Returns the files.

    Raises RulesError when the installed botocore has other rules, and OSError.
    """
    from botocore.loaders import Loader

    loader = Loader(include_default_search_paths=False, extra_search_paths=[Loader.BUILTIN_DATA_PATH])
    made = [
        (folder / service / version / f"{RULES}.json", change(loader.load_service_model(service, RULES, version)))
        for service, version, change in _CHANGES
    ]
    for file, rules in made:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as temporary:
            json.dump(rules, temporary, separators=(",", ":"))
        Path(temporary.name).chmod(0o644)
        Path(temporary.name).replace(file)
    return [file for file, _ in made]


def aws_data(folder: Path, *, as_json: bool) -> None:
    """The command."""
    import botocore

    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is not a folder.")
    try:
        files = write(folder)
    except RulesError as error:
        raise CommandError(f"botocore {botocore.__version__}: {error}.") from None
    if as_json:
        print_json(
            {
                "folder": str(folder.resolve()),
                "files": [str(file.resolve()) for file in files],
                "botocore": botocore.__version__,
            }
        )
        return
    notes.print(f"Rules of botocore {botocore.__version__}, changed, are in {folder.resolve()}. Use them with:\n")
    notes.print(f"  export AWS_DATA_PATH={folder.resolve()}", soft_wrap=True)
    notes.print(
        "  aws s3 ls s3://arn:aws:s3::ACCOUNT:accesspoint/ALIAS --endpoint-url http://127.0.0.1:8600", soft_wrap=True
    )
