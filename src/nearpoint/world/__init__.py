"""The local world: places, links with distance and faults, and the processes that make it up."""
