"""Measurements, each in one run with the peer it is compared with: `make bench`."""
