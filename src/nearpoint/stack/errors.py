"""What is wrong with a template or a request about a stack, in CloudFormation's words."""

from __future__ import annotations

from nearpoint.awsproto.errors import AwsError


class TemplateError(AwsError):
    """A `ValidationError`. `line` is the template's line it is about (from 1), or None."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__("ValidationError", message, status=400)
        self.line = line
