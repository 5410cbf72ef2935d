"""Puts Ref, GetAtt and Sub where a template says an id, a name or an ARN of what it makes itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ACCOUNT, PARTITION = "AWS::AccountId", "AWS::Partition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A literal and what stands for it: `Logical` or `Logical.Attribute`.

    `rank` is when it is known: a resource may name what ranks below it, so that no two wait for each other; parameters
    have rank 0. `whole`: the literal may be part of a longer name with dots, as a bucket's can, and is none then.
    """

    literal: str
    expression: str
    rank: int
    whole: bool = False


class Names:
    """All literals that a template replaces."""

    def __init__(self, names: list[Name], account_id: str) -> None:
        self._by_literal = {each.literal: each for each in names}
        self._account_id = account_id
        literals = sorted(self._by_literal, key=lambda literal: (-len(literal), literal))
        parts = []
        for literal in literals:
            around = "A-Za-z0-9.-" if self._by_literal[literal].whole else "A-Za-z0-9-"
            parts.append(rf"(?<![{around}]){re.escape(literal)}(?![{around}])")
        parts += [r"(?<![0-9])" + re.escape(account_id) + r"(?![0-9])", r"(?<![A-Za-z0-9])arn:aws:"]
        self._pattern = re.compile("|".join(parts))

    def replaced(self, value: Any, rank: int) -> Any:
        """The value of a resource's property, with references to all that ranks below it."""
        if isinstance(value, Mapping):
            return {name: self.replaced(each, rank) for name, each in value.items()}
        if isinstance(value, list):
            return [self.replaced(each, rank) for each in value]
        return self._text(value, rank) if isinstance(value, str) else value

    def placed(self, value: Any) -> Any:
        """The same for Metadata, where CloudFormation replaces nothing: `{Parameter}`, for parameters alone."""
        if isinstance(value, Mapping):
            return {name: self.placed(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.placed(each) for each in value]
        if not isinstance(value, str):
            return value
        return self._pattern.sub(lambda found: (self._expression(found[0], 1) or found[0]).removeprefix("$"), value)

    def _expression(self, literal: str, rank: int) -> str | None:
        if literal == self._account_id:
            return f"${{{ACCOUNT}}}"
        name = self._by_literal.get(literal)
        return f"${{{name.expression}}}" if name is not None and name.rank < rank else None

    def _text(self, text: str, rank: int) -> Any:
        whole = self._by_literal.get(text)
        if whole is not None and whole.rank < rank:
            logical, dot, attribute = whole.expression.partition(".")
            return {"Fn::GetAtt": [logical, attribute]} if dot else {"Ref": logical}
        made, at = "", 0
        escape: Callable[[str], str] = lambda literal: literal.replace("${", "${!")  # noqa: E731
        for found in self._pattern.finditer(text):
            expression = f"arn:${{{PARTITION}}}:" if found[0] == "arn:aws:" else self._expression(found[0], rank)
            if expression is not None:
                made += escape(text[at : found.start()]) + expression
                at = found.end()
        return {"Fn::Sub": made + escape(text[at:])} if at else text
