"""The resource types that a template may have, one module each."""

from nearpoint.stack.types.access_point import MultiRegionAccessPoint
from nearpoint.stack.types.access_point_policy import MultiRegionAccessPointPolicy
from nearpoint.stack.types.base import ResourceType
from nearpoint.stack.types.bucket import Bucket
from nearpoint.stack.types.bucket_policy import BucketPolicy
from nearpoint.stack.types.distribution import Distribution
from nearpoint.stack.types.edge_setting import EDGE_SETTINGS
from nearpoint.stack.types.function import Function, Version
from nearpoint.stack.types.role import Role

_ALL: tuple[ResourceType, ...] = (
    Bucket(),
    BucketPolicy(),
    Distribution(),
    *EDGE_SETTINGS,
    Function(),
    MultiRegionAccessPoint(),
    MultiRegionAccessPointPolicy(),
    Role(),
    Version(),
)

TYPES: dict[str, ResourceType] = {each.name: each for each in _ALL}
ATTRIBUTES: dict[str, frozenset[str]] = {each.name: each.attributes for each in _ALL}
