"""Pages of CloudFront's lists: the marker is the id of the last item of the page before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from nearpoint.awsapi.call import Call
from nearpoint.awsproto import AwsError

T = TypeVar("T")
PAGE_DEFAULT, PAGE_MAX = 100, 100


def page(call: Call, items: Sequence[T], ids: Sequence[str]) -> tuple[list[T], dict[str, Any]]:
    """A page of items after the one whose id the marker is, and the fields around it. Raises AwsError."""
    marker = call.params.get("Marker") or ""
    try:
        count = int(call.params.get("MaxItems") or PAGE_DEFAULT)  # a string in the model
    except ValueError:
        count = 0
    if not 1 <= count <= PAGE_MAX:
        raise AwsError("InvalidArgument", f"The parameter MaxItems is 1 to {PAGE_MAX}.")
    if marker and marker not in ids:
        raise AwsError("InvalidArgument", "The parameter Marker is not valid.")
    start = ids.index(marker) + 1 if marker else 0
    found = list(items[start : start + count])
    truncated = start + count < len(items)
    around: dict[str, Any] = {
        "Marker": marker,
        "MaxItems": count,
        "IsTruncated": truncated,
        "Quantity": len(found),
        "NextMarker": ids[start + count - 1] if truncated else None,
    }
    return found, around
