"""The disk tier of the cache: shared by the workers of an edge, bounded, and never torn.

`lifetime` opens a folder (and empties it when it can't be trusted), `index` keeps records and their order in LMDB,
`counts` how often they were used, `disk` is what the edge talks to.
"""
