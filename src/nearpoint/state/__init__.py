"""Resources with types, the store that keeps them, and the numbered snapshot that nodes run by."""
