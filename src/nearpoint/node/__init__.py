"""One worker's locations: edge, functions and access point wired together, run by the latest snapshot."""
