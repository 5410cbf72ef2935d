"""The embedded store of one region. Read `server` first: the phases of a request; then `rows`, the invariants on disk.

Pure: names, conditions, checksums, listing, assembly, metadata. Shells: store, writer, disk, intake, the operations.
"""
