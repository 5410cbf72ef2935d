"""Replication: every region comes to hold the same versions. Read `merge` first (what that means), then `copier`.

Pure: merge, backoff, framing, lag. Shells: source, target, copier, reconcile, the process in `__main__`.
"""
