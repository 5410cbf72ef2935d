"""One AWS service as its protocol: requests to parameters, results and errors to responses.

service = load_service("s3")
operation, params = service.parse("GET", "/bucket/key?versionId=1", headers)
response = service.serialize(operation, {"ETag": '"…"', "VersionId": "1"}, request_id)
response = service.serialize_error("NoSuchKey", request_id=request_id, extra={"Key": "key"})
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from nearpoint.awsproto import reply, request, xml
from nearpoint.awsproto.errors import AwsError, message_of, status_of
from nearpoint.awsproto.model import Operation, ServiceModel, load_model
from nearpoint.awsproto.routing import Query, Router, S3Router, read_query
from nearpoint.wire.message import Headers, Response

# Namespaces that the models do not state (API references of the services).
_NAMESPACES = {
    "s3": "http://s3.amazonaws.com/doc/2006-03-01/",
    "s3control": "http://awss3control.amazonaws.com/doc/2018-08-20/",
    "cloudfront": "http://cloudfront.amazonaws.com/doc/2020-05-31/",
}
_MALFORMED = {"s3": "MalformedXML", "s3control": "MalformedXML", "cloudfront": "MalformedInput"}


class Service:
    """The protocol of one service. `name` is botocore's name of it."""

    def __init__(self, model: ServiceModel) -> None:
        self.model = model
        self.name = model.name
        self.protocol = model.protocol
        self.operations = model.operations
        self._namespace: str | None = _NAMESPACES.get(model.name) or model.metadata.get("xmlNamespace")
        self._xml = request.XmlReader(_MALFORMED.get(model.name, "MalformedXML"))
        self._s3_router = S3Router(model) if model.name == "s3" else None
        self._router = Router(model)

    def route(
        self, method: str, target: str, headers: Headers, body: bytes = b"", *, bucket: str | None = None
    ) -> tuple[Operation, dict[str, str], Query]:
        """The operation of a request, its path labels and its query. Raises AwsError.

        `target` is as on the wire. `bucket` is the one in the host name (S3 only); None: it is in the path. `body` is
        looked at in the query protocol only. Cheap enough to call before `parse` (to learn whether the body streams).
        """
        path, _, query_text = target.partition("?")
        if self.protocol == "query":
            fields = request.read_form(body or query_text.encode("latin-1", "replace"))
            return self._named(fields.get("Action", "")), fields, {}
        if self.protocol == "json":
            return self._named((headers.get("x-amz-target") or "").rpartition(".")[2]), {}, {}
        query = read_query(query_text)
        if self._s3_router is not None:
            return *self._s3_router.find(method, path, query, headers, bucket), query
        found = self._router.find(method, path, query, headers)
        if found is None:
            code = "UnknownOperationException" if self.protocol == "rest-json" else "InvalidAction"
            raise AwsError(code, f"{self.name} has no operation at {method} {path}", status=404)
        return *found, query

    def _named(self, name: str) -> Operation:
        operation = self.operations.get(name)
        if operation is None:
            if self.protocol == "json":
                raise AwsError("UnknownOperationException")
            raise AwsError("InvalidAction", f"Could not find operation {name} for version {self.model.api_version}")
        return operation

    def parse(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes = b"",
        *,
        bucket: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[Operation, dict[str, Any]]:
        """The operation of a request and its parameters, named and typed as in boto3. Raises AwsError.

        As `route`; `labels` are host labels such as s3control's `AccountId`, taken where the request says nothing else.
        A streaming body (S3's objects) is not among the parameters: give `body=b""` and read the body elsewhere.
        """
        operation, path_labels, query = self.route(method, target, headers, body, bucket=bucket)
        return operation, self.read_params(operation, path_labels, query, headers, body, labels=labels)

    def read_params(
        self,
        operation: Operation,
        path_labels: dict[str, str],
        query: Query,
        headers: Headers,
        body: bytes = b"",
        *,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The parameters of a request that `route` has found the operation of. Raises AwsError."""
        input = operation.input
        if input is None:
            return {}
        if self.protocol == "query":
            params = request.read_form_value(input, path_labels)
        elif self.protocol == "json":
            params = request.read_json_value(input, request.read_json(body))
        else:
            params = request.read_located(operation, path_labels, query, headers)
            params.update(self._read_body(operation, body))
        for name, value in (labels or {}).items():
            if name in input.shape.members:
                params.setdefault(name, value)
        self._check_required(operation, params)
        return params

    def _read_body(self, operation: Operation, body: bytes) -> dict[str, Any]:
        input = operation.input
        assert input is not None
        shape = input.shape
        if operation.streaming_input is not None:
            return {}
        if shape.payload is not None:
            payload = shape.members[shape.payload]
            if payload.type == "blob":
                return {shape.payload: body} if body else {}
            if payload.type == "string":
                return {shape.payload: _utf8(body)} if body else {}
            if not body.strip():
                if shape.payload in shape.required:
                    raise AwsError("MissingRequestBodyError" if self.name == "s3" else "MalformedXML")
                return {}
            if self.protocol == "rest-json":
                return {shape.payload: request.read_json_value(payload, request.read_json(body))}
            return {shape.payload: self._xml.read_document(payload, body)}
        if not body or not shape.body_index:
            return {}
        found = (
            request.read_json_value(input, request.read_json(body))
            if self.protocol == "rest-json"
            else self._xml.read_document(input, body)
        )
        assert isinstance(found, dict)
        return found

    def _check_required(self, operation: Operation, params: dict[str, Any]) -> None:
        input = operation.input
        assert input is not None
        if self.name == "s3":
            for name in input.shape.required:
                if name not in params and name != operation.streaming_input:
                    if name == input.shape.payload:
                        raise AwsError("MissingRequestBodyError")
                    wire_name = input.shape.members[name].name or name
                    raise AwsError("InvalidRequest", f"Missing required parameter for this request: '{wire_name}'")
            return
        missing = request.missing_members(input, params)
        if operation.streaming_input in missing:
            missing.remove(operation.streaming_input)
        if not missing:
            return
        if self.name == "s3control":
            raise AwsError("InvalidRequest", f"Missing required parameter for this request: '{missing[0]}'")
        if self.name == "cloudfront":
            raise AwsError("InvalidArgument", f"The parameter {missing[0]} is required.")
        text = "; ".join(
            f"Value null at '{path[:1].lower()}{path[1:]}' failed to satisfy constraint: Member must not be null"
            for path in missing
        )
        count = f"{len(missing)} validation error{'s' if len(missing) > 1 else ''} detected: "
        raise AwsError("ValidationException" if "json" in self.protocol else "ValidationError", count + text)

    def serialize(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> Response:
        """A result, named and typed as boto3 returns it, as a response.

        Members that are None are left out; any member's value may be `xml.Raw`. For an operation with a streaming
        output the body is the member's bytes, or empty for the caller to set. `request_id` goes where the protocol has
        it.
        """
        headers = Headers()
        status = operation.status
        self._add_request_id(headers, request_id)
        if operation.output is not None:
            status = reply.write_headers(headers, operation.output.shape, result) or status
        content_type: str | None
        if self.protocol == "query":
            body: bytes | None = reply.query_body(operation, result, self._namespace, request_id)
            content_type = "text/xml"
        elif self.protocol == "rest-xml":
            body = reply.rest_xml_body(operation, result, self._namespace)
            content_type = "application/xml" if self.name == "s3" else "text/xml"
        elif self.protocol == "rest-json":
            body, content_type = reply.rest_json_body(operation, result), "application/json"
        else:
            output = operation.output
            body = orjson.dumps(reply.json_value(output, result)) if output is not None else b"{}"
            content_type = f"application/x-amz-json-{self.model.metadata.get('jsonVersion', '1.0')}"
        if operation.streaming_output is None and body and "content-type" not in headers:
            headers.add("Content-Type", _payload_type(operation) or content_type)
        return Response(status, headers, body or b"")

    def serialize_error(
        self,
        code: str,
        message: str | None = None,
        status: int | None = None,
        *,
        request_id: str = "",
        extra: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """An error in the service's own shape. `status`: given, else the service model's, else the table's, else 400.

        `extra` are further elements (S3: `BucketName`, `Key` …; s3control; cloudfront), `headers` further fields.
        """
        if message is None:
            message = message_of(code)
        if status is None:
            status = self.model.error_statuses.get(code) or status_of(code) or 400
        fields = Headers()
        self._add_request_id(fields, request_id)
        for name, value in (headers or {}).items():
            fields.set(name, value)
        if status in {204, 304}:
            return Response(status, fields)
        if "json" in self.protocol:
            body = self._json_error(code, message, status, fields, extra or {})
        else:
            fields.add("Content-Type", "application/xml" if self.name == "s3" else "text/xml")
            body = self._xml_error(code, message, status, request_id, extra or {})
        return Response(status, fields, body)

    def error(self, error: AwsError, request_id: str, extra: Mapping[str, str] | None = None) -> Response:
        """`serialize_error` of an exception; `extra` come after its own."""
        return self.serialize_error(
            error.code,
            error.message,
            error.explicit_status,
            request_id=request_id,
            extra={**error.extra, **(extra or {})},
            headers=error.headers,
        )

    def _xml_error(self, code: str, message: str, status: int, request_id: str, extra: Mapping[str, str]) -> bytes:
        inner = xml.element("Code", code) + xml.element("Message", message)
        inner += "".join(xml.element(name, value) for name, value in extra.items())
        if self.name == "s3":
            inner += xml.element("RequestId", request_id) + xml.element("HostId", host_id(request_id))
            return xml.document("Error", None, inner)
        sender = xml.element("Type", "Sender" if status < 500 else "Receiver")
        rest = xml.element("RequestId", request_id)
        if self.name == "s3control":
            sender = ""
            rest += xml.element("HostId", host_id(request_id))
        return xml.document("ErrorResponse", self._namespace, f"<Error>{sender}{inner}</Error>{rest}")

    def _json_error(self, code: str, message: str, status: int, headers: Headers, extra: Mapping[str, str]) -> bytes:
        value: dict[str, str] = dict(extra)
        if self.protocol == "rest-json":
            headers.add("Content-Type", "application/json")
            headers.add("x-amzn-ErrorType", code)
            value |= {"Type": "User" if status < 500 else "Service", "Message": message}
        else:
            headers.add("Content-Type", f"application/x-amz-json-{self.model.metadata.get('jsonVersion', '1.0')}")
            value |= {"__type": code, "message": message}
        return orjson.dumps(value)

    def _add_request_id(self, headers: Headers, request_id: str) -> None:
        if self.name in {"s3", "s3control"}:
            headers.add("x-amz-request-id", request_id)
            headers.add("x-amz-id-2", host_id(request_id))
        else:
            headers.add("x-amzn-RequestId", request_id)


def _payload_type(operation: Operation) -> str | None:
    if operation.name == "GetBucketPolicy":
        return "application/json"
    output = operation.output
    if output is None or output.shape.payload is None:
        return None
    return "application/octet-stream" if output.shape.members[output.shape.payload].type == "blob" else None


def host_id(request_id: str) -> str:
    """S3's second id of a request (`x-amz-id-2`, `HostId`): there it names the host; here it follows from the first."""
    return f"np{request_id}"


def _utf8(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise AwsError("InvalidArgument", "The request body is not UTF-8") from None


@cache
def load_service(name: str) -> Service:
    """The protocol of a service by botocore's name for it. Raises LookupError. Loaded once."""
    return Service(load_model(name))
