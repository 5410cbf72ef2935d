"""Which operation a request asks for, from method, path, query and headers (REST protocols).

The most specific route wins: more literal path segments, then more query constants and required query parameters.
S3 is special: one path carries dozens of operations, told apart by sub-resources in the query and by
`x-amz-copy-source`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from urllib.parse import unquote_to_bytes

from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.model import Operation, ServiceModel
from nearpoint.wire.message import Headers

Query = dict[str, list[str]]
QUERY_FIELDS_MAX = 1000


def decode_text(text: str) -> str:
    """Percent-decoded UTF-8 of latin-1 wire text. Raises AwsError(InvalidURI)."""
    if text.isascii() and "%" not in text:
        return text
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise AwsError("InvalidURI") from None


def read_query(query: str) -> Query:
    """Names and values of a query string, percent-decoded, `+` as a space. Raises AwsError(InvalidURI)."""
    found: Query = {}
    if not query:
        return found
    pairs = query.split("&")
    if len(pairs) > QUERY_FIELDS_MAX:
        raise AwsError("InvalidURI")
    for pair in pairs:
        if pair:
            name, _, value = pair.replace("+", " ").partition("=")
            found.setdefault(decode_text(name), []).append(decode_text(value))
    return found


@dataclass(frozen=True, slots=True)
class _Route:
    operation: Operation
    pattern: re.Pattern[str]
    constants: tuple[tuple[str, str | None], ...]
    required_query: tuple[str, ...]
    copy_source: bool
    rank: tuple[int, int, int, int]

    def accepts(self, query: Query, headers: Headers) -> bool:
        for name, value in self.constants:
            if name not in query or (value is not None and value not in query[name]):
                return False
        if self.copy_source and "x-amz-copy-source" not in headers:
            return False
        return all(name in query for name in self.required_query)


_LABEL = re.compile(r"\{([^}+]+)(\+?)\}")


def _pattern(path: str) -> re.Pattern[str]:
    parts: list[str] = []
    at = 0
    for match in _LABEL.finditer(path):
        parts.append(re.escape(path[at : match.start()]))
        parts.append(f"(?P<{match.group(1)}>{'.+' if match.group(2) else '[^/]+'})")
        at = match.end()
    parts.append(re.escape(path[at:].removesuffix("/")))
    return re.compile("".join(parts) + "/?", re.DOTALL)


def _route(operation: Operation) -> _Route:
    path, _, query = operation.uri.partition("?")
    constants = tuple(
        (name, value if equals else None)
        for name, equals, value in (item.partition("=") for item in query.split("&") if item)
    )
    required = operation.input.shape.required if operation.input is not None else ()
    located = operation.located
    required_query = tuple(wire for wire, (name, _) in located.query.items() if name in required)
    copy_source = "x-amz-copy-source" in located.headers and located.headers["x-amz-copy-source"][0] in required
    literals = sum(1 for segment in path.split("/") if segment and "{" not in segment)
    greedy = path.count("+}")
    return _Route(
        operation=operation,
        pattern=_pattern(path),
        constants=constants,
        required_query=required_query,
        copy_source=copy_source,
        rank=(-literals, greedy, -len(constants) - len(required_query) - copy_source, int(operation.deprecated)),
    )


class Router:
    """Routes of a REST service."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model

    @cached_property
    def _routes(self) -> dict[str, list[_Route]]:
        routes: dict[str, list[_Route]] = {}
        for operation in self._model.operations.values():
            routes.setdefault(operation.method, []).append(_route(operation))
        for of_method in routes.values():
            of_method.sort(key=lambda route: route.rank)
        return routes

    def find(self, method: str, path: str, query: Query, headers: Headers) -> tuple[Operation, dict[str, str]] | None:
        """The operation and its decoded path labels, or None where no operation has that route."""
        for route in self._routes.get(method, ()):
            match = route.pattern.fullmatch(path)
            if match is not None and route.accepts(query, headers):
                return route.operation, {name: decode_text(value) for name, value in match.groupdict().items()}
        return None


Level = Literal["service", "bucket", "object"]


class S3Router:
    """Routes of S3, where the bucket may be in the path or in the host."""

    def __init__(self, model: ServiceModel) -> None:
        self._routes: dict[tuple[str, Level], list[_Route]] = {}
        self._subresources = {"uploadId"}
        for operation in model.operations.values():
            path = operation.uri.partition("?")[0]
            level: Level | None = {"/": "service", "/{Bucket}": "bucket", "/{Bucket}/{Key+}": "object"}.get(path)  # type: ignore[assignment]
            if level is None:
                continue  # WriteGetObjectResponse: S3 Object Lambda's own host
            route = _route(operation)
            self._routes.setdefault((operation.method, level), []).append(route)
            self._subresources.update(name for name, _ in route.constants)
        self._subresources -= {"list-type", "select-type"}
        for routes in self._routes.values():
            routes.sort(key=lambda route: route.rank)

    def find(
        self, method: str, path: str, query: Query, headers: Headers, bucket: str | None
    ) -> tuple[Operation, dict[str, str]]:
        """The operation and its labels `Bucket` and `Key`. Raises AwsError (MethodNotAllowed, InvalidURI)."""
        key = path[1:]
        if bucket is None:
            if path.startswith("//"):
                raise AwsError("InvalidURI")
            raw_bucket, _, key = key.partition("/")
            bucket = decode_text(raw_bucket)
        labels = {"Bucket": bucket} if bucket else {}
        level: Level = "service"
        if bucket and key:
            level = "object"
            labels["Key"] = decode_text(key)
        elif bucket:
            level = "bucket"
        for route in self._routes.get((method, level), ()):
            if route.accepts(query, headers):
                if query and not self._consumes(route, query):
                    break
                return route.operation, labels
        raise AwsError("MethodNotAllowed", extra={"Method": method, "ResourceType": level.upper()})

    def _consumes(self, route: _Route, query: Query) -> bool:
        # DELETE /key?acl must not fall through to DeleteObject: a sub-resource has to be one that the route knows.
        known = route.operation.located.query
        constants = [name for name, _ in route.constants]
        return all(name in constants or name in known for name in query if name in self._subresources)
