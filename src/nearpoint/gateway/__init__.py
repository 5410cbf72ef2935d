"""The gateway of a region whose store is somebody else's: it gives any S3 store what replication needs of a store.

A foreign store has no log, no place for a stamp, and no way to take a version in. The gateway stands in front of it,
in its region, and speaks what the embedded store speaks: S3, and replication's own calls. So access points, copiers
and the reconciler need not know which kind of store a region has.

Read `stamps` first (what a key is there, and what is done with a version that arrives; pure), then `writes` (how a
write gets its stamp and its entry in the log), `log` (the log, in JetStream), `giving` and `taking` (versions out and
in).
"""
