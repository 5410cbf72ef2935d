"""Hands the functions room to the edge: finds the function of an ARN, gives it its role's credentials, runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from nearpoint.edge import ports
from nearpoint.functions.event import EventConfig
from nearpoint.functions.logs import LogSink
from nearpoint.functions.origin import CustomOrigin, Origin, S3Origin
from nearpoint.functions.outcome import Continue, Failed, Respond
from nearpoint.functions.runner import Runner
from nearpoint.functions.sandbox import Sandbox
from nearpoint.signing import Credentials
from nearpoint.state.resources import Function, Snapshot
from nearpoint.state.sessions import mint
from nearpoint.wire.message import Response

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

    async def run_request(self, call: ports.FunctionCall, /) -> ports.Continue | ports.Respond | ports.Failed:
        function = self._function(call)
        if isinstance(function, ports.Failed):
            return function
        include_body = call.association.include_body
        if call.origin is None:
            outcome = await self._runner.run_viewer_request(
                function, _config_of(call), call.request, include_body=include_body
            )
        else:
            outcome = await self._runner.run_origin_request(
                function, _config_of(call), call.request, _origin_of(call.origin), include_body=include_body
            )
        match outcome:
            case Respond(response=response):
                return ports.Respond(response=response)
            case Failed():
                return self._failed(function, call, outcome)
            case Continue(request=request, origin=origin):
                target = call.origin if origin is None or call.origin is None else _target_of(origin, call.origin)
                return ports.Continue(request=request, origin=target)

    async def run_response(self, call: ports.FunctionCall, response: Response, /) -> Response | ports.Failed:
        function = self._function(call)
        if isinstance(function, ports.Failed):
            return function
        if call.origin is None:
            outcome = await self._runner.run_viewer_response(function, _config_of(call), call.request, response)
        else:
            outcome = await self._runner.run_origin_response(
                function, _config_of(call), call.request, response, _origin_of(call.origin)
            )
        if isinstance(outcome, Failed):
            return self._failed(function, call, outcome)
        assert outcome.response is not None
        return outcome.response

    def _function(self, call: ports.FunctionCall) -> Function | ports.Failed:
        function = self._snapshot().functions.get(call.association.function_arn)
        if function is None:
            text = f"there is no function {call.association.function_arn}"
            return ports.Failed(status=503, result="LambdaExecutionError", reason="missing", text=text)
        return function

    def _failed(self, function: Function, call: ports.FunctionCall, failure: Failed) -> ports.Failed:
        line = f"FAILED RequestId: {call.request_id}\tStatus: {failure.status}\t{failure.reason}: {failure.text}"
        self._log(function, call.request_id, line)
        return ports.Failed(status=failure.status, result=failure.result_type, reason=failure.reason, text=failure.text)


def _config_of(call: ports.FunctionCall) -> EventConfig:
    return EventConfig(
        distribution_domain=call.distribution_domain,
        distribution_id=call.distribution_id,
        request_id=call.request_id,
    )


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
            read_timeout_s=before.read_timeout_s,
            completion_timeout_s=before.completion_timeout_s,
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
        completion_timeout_s=before.completion_timeout_s,
    )
