"""Nearpoint: one global endpoint in front of S3 buckets in many regions."""

__version__ = "0.1.0"
