"""AWS protocols: requests parsed and answers serialised from botocore's service models. Pure."""

from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.model import Operation
from nearpoint.awsproto.service import Service, load_service

__all__ = ["AwsError", "Operation", "Service", "load_service"]
