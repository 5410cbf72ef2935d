"""Hands the functions room to the edge: finds the function of an ARN, gives it its role's credentials, runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from nearpoint.edge import ports
from nearpoint.functions.event import EventConfig
from nearpoint.functions.logs import LogSink
from nearpoint.functions.origin import CustomOrigin, Origin, S3Origin
from nearpoint.functions.outcome import Continue, Failed, Outcome, Respond
from nearpoint.functions.runner import Runner
from nearpoint.functions.sandbox import Sandbox
from nearpoint.signing import Credentials
from nearpoint.state.resources import Function, Snapshot
from nearpoint.state.sessions import mint

SESSION_S = 3600
RENEW_S = 900  # renewed this long before they expire: longer than any function runs


class RoleCredentials:
    """Temporary credentials by role, renewed in time."""

    def __init__(self, snapshot: Callable[[], Snapshot], clock: Callable[[], float] = time.time) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._kept: dict[str, tuple[float, Credentials]] = {}

    def __call__(self, function: Function) -> Credentials:
        """Credentials of the function's role that are valid for a quarter of an hour at least."""
        now = self._clock()
        expires_at, credentials = self._kept.get(function.role_arn, (0.0, None))
        if credentials is None or now > expires_at - RENEW_S:
            expires_at = now + SESSION_S
            access_key_id, secret_key, token = mint(
                self._snapshot().session_secret,
                role_arn=function.role_arn,
                session_name=function.name,
                expires_at=int(expires_at),
                random_bytes=os.urandom(10),
            )
            credentials = Credentials(access_key_id=access_key_id, secret_key=secret_key, session_token=token)
            self._kept[function.role_arn] = (expires_at, credentials)
        return credentials


class EdgeFunctions:
    """The edge's FunctionRunner over the functions room."""

    def __init__(self, snapshot: Callable[[], Snapshot], sandbox: Sandbox, log: LogSink) -> None:
        self._snapshot = snapshot
        self._log = log
        self._runner = Runner(sandbox.invoke, RoleCredentials(snapshot))

    async def run_origin_request(self, call: ports.FunctionCall, /) -> ports.Continue | ports.Respond | ports.Failed:
        function = self._snapshot().functions.get(call.association.function_arn)
        if function is None:
            text = f"there is no function {call.association.function_arn}"
            return ports.Failed(status=503, result="LambdaExecutionError", text=text)
        config = EventConfig(
            distribution_domain=call.distribution_domain,
            distribution_id=call.distribution_id,
            request_id=call.request_id,
        )
        outcome = await self._runner.run_origin_request(
            function, config, call.request, _origin_of(call.origin), include_body=call.association.include_body
        )
        if isinstance(outcome, Failed):
            line = f"FAILED RequestId: {call.request_id}\tStatus: {outcome.status}\t{outcome.reason}: {outcome.text}"
            self._log(function, call.request_id, line)
        return _for_edge(outcome, call.origin)


def _origin_of(target: ports.OriginTarget) -> Origin:
    if target.kind == "s3":
        return S3Origin(
            domain_name=target.host,
            region=target.region,
            path=target.path,
            auth_method=target.auth_method,
            custom_headers=target.custom_headers,
        )
    return CustomOrigin(
        domain_name=target.host,
        path=target.path,
        port=target.port,
        protocol=target.scheme,
        read_timeout_s=round(target.read_timeout_s),
        keepalive_timeout_s=round(target.keepalive_timeout_s),
        ssl_protocols=target.ssl_protocols,
        custom_headers=target.custom_headers,
    )


def _target_of(origin: Origin, before: ports.OriginTarget) -> ports.OriginTarget:
    if isinstance(origin, S3Origin):
        return ports.OriginTarget(
            kind="s3",
            scheme="https",
            host=origin.domain_name,
            port=443,
            path=origin.path,
            custom_headers=origin.custom_headers,
            region=origin.region,
            auth_method=origin.auth_method,
            connect_timeout_s=before.connect_timeout_s,
            connection_attempts=before.connection_attempts,
        )
    return ports.OriginTarget(
        kind="custom",
        scheme=origin.protocol,
        host=origin.domain_name,
        port=origin.port,
        path=origin.path,
        custom_headers=origin.custom_headers,
        ssl_protocols=origin.ssl_protocols,
        read_timeout_s=origin.read_timeout_s,
        keepalive_timeout_s=origin.keepalive_timeout_s,
        connect_timeout_s=before.connect_timeout_s,
        connection_attempts=before.connection_attempts,
    )


def _for_edge(outcome: Outcome, before: ports.OriginTarget) -> ports.Continue | ports.Respond | ports.Failed:
    match outcome:
        case Respond(response=response):
            return ports.Respond(response=response)
        case Failed(status=status, text=text):
            return ports.Failed(status=status, result=outcome.result_type, text=text)
        case Continue(request=request, origin=origin):
            target = before if origin is None else _target_of(origin, before)
            return ports.Continue(request=request, origin=target)
