"""Which accounts this machine has deployed a stack into: an empty file for each, named STACK.ACCOUNT.

The account's number is part of the names of a deployment's buckets, so from another account a deployment simply is not
there: with the wrong profile `deploy` would make it a second time, and `delete` would find nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Accounts:
    """The accounts by stack. A folder that can't be used, or None, remembers nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def of(self, stack: str) -> list[str]:
        """The accounts that the stack was deployed into from here, and not deleted from since."""
        if self._folder is None:
            return []
        try:
            names = [path.name.rpartition(".") for path in self._folder.iterdir()]
        except OSError:
            return []
        return sorted(account_id for name, _, account_id in names if name == stack)

    def add(self, stack: str, account_id: str) -> None:
        """Remember; `stack` is a valid stack name."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / f"{stack}.{account_id}").touch()

    def forget(self, stack: str, account_id: str) -> None:
        """The stack is gone from the account."""
        if self._folder is not None and account_id in self.of(stack):
            with contextlib.suppress(OSError):
                (self._folder / f"{stack}.{account_id}").unlink(missing_ok=True)


def of_this_user() -> Accounts:
    """Where the user's state is kept (XDG Base Directory Specification, `XDG_STATE_HOME`)."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        folder = state if state.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # nobody's home
        return Accounts(None)
    return Accounts(folder / "nearpoint" / "aws")
