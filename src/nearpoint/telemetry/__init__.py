"""Logs, and what a process tells its supervisor. Any shell may use this room; it imports no other."""
