"""The catalog of regions, and one S3 client for whatever store stands in each.

Read `store` first, then `forward`: what an authenticated request goes through on its way to a store.
"""
