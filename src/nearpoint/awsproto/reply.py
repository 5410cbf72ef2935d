"""Writes results and errors as an AWS service answers them.

Which members go where (status, headers, body) comes from the model; what the model does not say (S3's root elements,
where each protocol puts the request id) is in the tables here.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import orjson

from nearpoint.awsproto import xml
from nearpoint.awsproto.model import Member, Operation, Shape
from nearpoint.awsproto.scalars import write_scalar, write_timestamp
from nearpoint.wire.message import Headers

# Root elements of S3's answers that differ from the name of the payload (S3 API Reference, response syntax).
S3_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycle": "LifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotification": "NotificationConfiguration",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListDirectoryBuckets": "ListAllMyDirectoryBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}


def xml_value(parts: list[str], member: Member, value: Any, tag: str) -> None:
    """Append the element (or elements, for a flattened list) of a value to `parts`. `Raw` goes out as it is."""
    if isinstance(value, xml.Raw):
        parts.append(value)
        return
    kind = member.type
    if kind == "structure":
        parts.append(f"<{tag}{_attributes(member, value)}>")
        xml_members(parts, member.shape, value)
        parts.append(f"</{tag}>")
    elif kind == "list":
        element = member.shape.element
        assert element is not None
        if member.flattened:
            for item in value:
                xml_value(parts, element, item, element.name or tag)
        else:
            parts.append(f"<{tag}>")
            for item in value:
                xml_value(parts, element, item, element.name or "member")
            parts.append(f"</{tag}>")
    elif kind == "map":
        key, of_map = member.shape.key, member.shape.value
        assert key is not None
        assert of_map is not None
        entry = tag if member.flattened else "entry"
        if not member.flattened:
            parts.append(f"<{tag}>")
        for name, item in value.items():
            parts.append(f"<{entry}>")
            xml_value(parts, key, name, key.name or "key")
            xml_value(parts, of_map, item, of_map.name or "value")
            parts.append(f"</{entry}>")
        if not member.flattened:
            parts.append(f"</{tag}>")
    else:
        text = write_scalar(kind, value, member.timestamp_format or "iso8601")
        parts.append(f"<{tag}>{xml.escape(text)}</{tag}>")


def xml_members(parts: list[str], shape: Shape, value: Mapping[str, Any]) -> None:
    """Append the elements of a structure's body members, in the model's order."""
    for name, tag, member in shape.body_members:
        item = value.get(name)
        if item is None:
            continue
        if member.type == "string" and type(item) is str:  # most members are, and a listing has thousands
            parts.append(f"<{tag}>{xml.escape(item)}</{tag}>")
        else:
            xml_value(parts, member, item, tag)


def _attributes(member: Member, value: Mapping[str, Any]) -> str:
    text = ""
    if member.namespace is not None:
        prefix = member.namespace.get("prefix")
        text = f' xmlns{":" + prefix if prefix else ""}="{xml.escape(member.namespace["uri"])}"'
    for name, inner in member.shape.members.items():
        if inner.attribute and value.get(name) is not None:
            text += f' {inner.name}="{xml.escape(str(value[name]))}"'
    return text


def rest_xml_body(operation: Operation, result: Mapping[str, Any], namespace: str | None) -> bytes | None:
    """The body of a rest-xml answer that is not a stream; None where there is nothing to put in one."""
    output = operation.output
    if output is None:
        return None
    shape = output.shape
    if shape.payload is not None:
        payload = shape.members[shape.payload]
        value = result.get(shape.payload)
        if payload.type in {"blob", "string"}:
            return _text_or_bytes(value)
        if value is None:
            return None
        root = S3_ROOTS.get(operation.name) or payload.name or payload.shape.name
        return _rooted(root, payload, value, namespace)
    if operation.name == "GetBucketLocation":
        # The one answer whose root element holds the value itself (S3 API Reference, GetBucketLocation).
        return xml.document("LocationConstraint", namespace, xml.escape(str(result.get("LocationConstraint") or "")))
    if not any(member.location is None for member in shape.members.values()):
        return None
    return _rooted(S3_ROOTS.get(operation.name) or output.name or shape.name, output, result, namespace)


def _rooted(root: str, member: Member, value: Any, namespace: str | None) -> bytes:
    parts: list[str] = []
    if isinstance(value, xml.Raw):
        parts.append(value)
    else:
        xml_members(parts, member.shape, value)
    own = member.namespace["uri"] if member.namespace is not None and "prefix" not in member.namespace else None
    return xml.document(root, own or namespace, "".join(parts))


def query_body(operation: Operation, result: Mapping[str, Any], namespace: str | None, request_id: str) -> bytes:
    """The body of a query-protocol answer."""
    parts: list[str] = []
    if operation.output is not None:
        wrapper = operation.result_wrapper or f"{operation.name}Result"
        parts.append(f"<{wrapper}>")
        xml_members(parts, operation.output.shape, result)
        parts.append(f"</{wrapper}>")
    parts.append(f"<ResponseMetadata><RequestId>{xml.escape(request_id)}</RequestId></ResponseMetadata>")
    return xml.document(f"{operation.name}Response", namespace, "".join(parts))


def json_value(member: Member, value: Any) -> Any:
    """A value of a shape as JSON has it."""
    kind = member.type
    if kind == "structure":
        if member.shape.traits.get("document"):
            return value
        return {
            inner.name or name: json_value(inner, value[name])
            for name, inner in member.shape.members.items()
            if inner.location is None and value.get(name) is not None
        }
    if kind == "list":
        element = member.shape.element
        assert element is not None
        return [None if item is None else json_value(element, item) for item in value]
    if kind == "map":
        of_map = member.shape.value
        assert of_map is not None
        return {key: json_value(of_map, item) for key, item in value.items()}
    if kind == "timestamp":
        return write_timestamp(value, member.timestamp_format or "unixTimestamp")
    if kind == "blob":
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    if kind in {"float", "double"} and not math.isfinite(value):
        return write_scalar(kind, value, "")
    return value


def rest_json_body(operation: Operation, result: Mapping[str, Any]) -> bytes | None:
    """The body of a rest-json answer that is not a stream; None where there is nothing to put in one."""
    output = operation.output
    if output is None:
        return None
    shape = output.shape
    if shape.payload is not None:
        payload = shape.members[shape.payload]
        value = result.get(shape.payload)
        if payload.type in {"blob", "string"}:
            return _text_or_bytes(value)
        return None if value is None else orjson.dumps(json_value(payload, value))
    if operation.status == 204:
        return None
    return orjson.dumps(json_value(output, result))


def _text_or_bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def write_headers(headers: Headers, shape: Shape, result: Mapping[str, Any]) -> int | None:
    """Add the header members of an output; answers the status if a member carries it."""
    status: int | None = None
    for name, member in shape.members.items():
        value = result.get(name)
        if value is None or member.location is None:
            continue
        if member.location == "header":
            text = _header_text(member, value)
            if text:
                headers.add(member.name or name, text)
        elif member.location == "headers":
            for key, item in value.items():
                headers.add((member.name or "") + key, _wire(str(item)))
        elif member.location == "statusCode":
            status = int(value)
    return status


def _header_text(member: Member, value: Any) -> str:
    if member.type == "list":
        element = member.shape.element
        assert element is not None
        return ",".join(_header_text(element, item) for item in value)
    return _wire(write_scalar(member.type, value, member.timestamp_format or "rfc822"))


def _wire(text: str) -> str:
    """Text for a header field: latin-1 as it is, anything else as the bytes of UTF-8; never a line break."""
    if not text.isascii():
        try:
            text.encode("latin-1")
        except UnicodeEncodeError:
            text = text.encode("utf-8", "surrogatepass").decode("latin-1")
    if "\r" in text or "\n" in text or "\0" in text:
        text = text.replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return text
