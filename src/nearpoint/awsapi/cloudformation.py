"""CloudFormation over the stack engine: which module answers which call, and what policies are asked about
(CloudFormation API Reference)."""

from __future__ import annotations

from nearpoint.awsapi import cloudformation_change_sets as change_sets
from nearpoint.awsapi import cloudformation_resources as resources
from nearpoint.awsapi import cloudformation_stacks as stacks
from nearpoint.awsapi import cloudformation_templates as templates
from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.stack_call import engine_of

SERVICE = "cloudformation"
HANDLERS: dict[str, Handler] = {
    **stacks.HANDLERS,
    **resources.HANDLERS,
    **templates.HANDLERS,
    **change_sets.HANDLERS,
}


def _stack_arn(call: Call) -> str:
    # IAM, "Actions, resources, and condition keys for AWS CloudFormation": stack/NAME/ID.
    name = call.params.get("StackName")
    if not name:
        return "*"
    if name.startswith("arn:"):
        return str(name)
    stack = engine_of(call).ledger.find(call.region, name)
    if stack is not None:
        return stack.arn
    return f"arn:aws:cloudformation:{call.region}:{call.ctx.account_id}:stack/{name}/*"


RESOURCES = {
    name: _stack_arn
    for name in HANDLERS
    if name not in ("GetTemplateSummary", "ListExports", "ListImports", "ListStacks", "ValidateTemplate")
}
