"""MEMORY: what was planned and what was metered, append-only, and the difference with a name for every dollar."""
