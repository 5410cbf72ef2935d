"""What a distribution's configuration names by id, as it is handed to `compile_distribution`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nearpoint.edge.policies import Policies
from nearpoint.edge.signed_url import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The account's own, by id, in CloudFormation's shape; managed policies are known anyway.

    `policies` are cache, origin request and response headers policies; `key_groups` have the keys of each by key id.
    """

    policies: Policies = field(default_factory=dict)
    access_controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_groups: Mapping[str, Mapping[str, Key]] = field(default_factory=dict)
