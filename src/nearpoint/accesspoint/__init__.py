"""The access point: one S3 endpoint over a bucket in each of several regions.

A request goes through, in this order (`server` is the read-first file): `routes` finds the access point, `authorize`
proves who asks and whether they may, `choose` orders the regions by `health` and `latency`, and `server` forwards,
failing over from one region to the next. `prober` keeps health and latency up to date.
"""
