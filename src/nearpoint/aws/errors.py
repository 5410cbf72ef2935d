"""What can go wrong on the way to AWS, in words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence


class DeployError(Exception):
    """A sentence for the user. `usage`: the command's own words are off. `refused`: somebody has to say yes first, the
    target says no, or has no such thing. `unreachable`: nobody answered. `passing`: the same call may succeed in a
    moment."""

    def __init__(
        self,
        message: str,
        *,
        usage: bool = False,
        refused: bool = False,
        unreachable: bool = False,
        passing: bool = False,
    ) -> None:
        super().__init__(message)
        self.usage = usage
        self.refused = refused
        self.unreachable = unreachable
        self.passing = passing

    def with_rest(self, sentence: str) -> DeployError:
        """The same, and one sentence more."""
        said = str(self).rstrip()
        return DeployError(
            f"{said}{'' if said.endswith(('.', '!', '?')) else '.'} {sentence}",
            usage=self.usage,
            refused=self.refused,
            unreachable=self.unreachable,
            passing=self.passing,
        )


class PackageError(DeployError):
    """What is wrong with a function's folder, all of it."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(("The function can't run at the edge:", *(f"  {each}" for each in problems))))
