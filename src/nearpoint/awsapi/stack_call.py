"""What the calls about stacks and those about change sets read out of a call in the same way."""

from __future__ import annotations

from nearpoint.awsapi.call import Call
from nearpoint.awsproto import AwsError
from nearpoint.stack.document import TEMPLATE_BYTES_MAX
from nearpoint.stack.engine import Engine
from nearpoint.stack.records import Stack
from nearpoint.stack.requests import INLINE_BYTES_MAX
from nearpoint.stack.template_url import template_location

PAGE = 100
# Asked for and not carried out would be worse than refused.
NOT_SUPPORTED = (
    "ResourceTypes", "StackPolicyBody", "StackPolicyURL", "StackPolicyDuringUpdateBody", "StackPolicyDuringUpdateURL",
)  # fmt: skip


def invalid(text: str) -> AwsError:
    """A ValidationError in these words."""
    return AwsError("ValidationError", text, status=400)


def engine_of(call: Call) -> Engine:
    """The world's stack engine."""
    return call.ctx.part(Engine)


def find_stack(call: Call) -> Stack:
    """The stack that the call names, by name or ARN. Raises ValidationError, in the words of calls that describe."""
    stack = engine_of(call).ledger.find(call.region, call.params["StackName"])
    if stack is None:
        raise invalid(f"Stack with id {call.params['StackName']} does not exist")
    return stack


async def given_template(call: Call) -> str | None:
    """The template that the call gives, inline or by URL; None where it gives none."""
    body, url = call.params.get("TemplateBody"), call.params.get("TemplateURL")
    if body is not None and url is not None:
        raise invalid("Either Template URL or Template Body must be specified, not both.")
    if url is not None:
        bucket, key, version_id = template_location(url)
        try:
            data = await engine_of(call).reader.get(bucket, key, version_id, TEMPLATE_BYTES_MAX)
            return data.decode()
        except UnicodeDecodeError:
            raise invalid("Template format error: the template is not UTF-8.") from None
        except AwsError as error:
            if error.code == "EntityTooLarge":
                raise invalid(f"Template may not exceed {TEMPLATE_BYTES_MAX} bytes in size.") from None
            raise invalid(f"S3 error: {error.message}") from None
    if body is not None and len(body.encode("utf-8", "surrogatepass")) > INLINE_BYTES_MAX:
        raise invalid(
            "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have "
            f"length less than or equal to {INLINE_BYTES_MAX}"
        )
    return str(body) if body is not None else None


def refuse_unsupported(call: Call) -> None:
    """Raises ValidationError for what is asked for and would not be carried out."""
    for name in NOT_SUPPORTED:
        if call.params.get(name):
            raise invalid(f"{name} is not supported by Nearpoint yet")
    if call.params.get("RollbackConfiguration", {}).get("RollbackTriggers"):
        raise invalid("RollbackTriggers are not supported by Nearpoint yet")


def given_tags(call: Call) -> dict[str, str] | None:
    """The tags, or None where the call says nothing of them."""
    if "Tags" not in call.params:
        return None
    return {tag["Key"]: tag["Value"] for tag in call.params["Tags"]}


def given_parameters(call: Call) -> tuple[dict[str, str], tuple[str, ...]]:
    """Values by key, and the keys whose previous value is kept. Raises ValidationError."""
    given: dict[str, str] = {}
    kept: list[str] = []
    for parameter in call.params.get("Parameters", ()):
        key = parameter.get("ParameterKey")
        if not key or key in given or key in kept:
            raise invalid("Parameter keys have to be given, each once")
        if parameter.get("UsePreviousValue"):
            if "ParameterValue" in parameter:
                raise invalid(
                    f"Invalid input for parameter key {key}. Cannot specify usePreviousValue as true and a value"
                )
            kept.append(key)
        else:
            given[key] = parameter.get("ParameterValue", "")
    return given, tuple(kept)
