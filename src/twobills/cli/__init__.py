"""The command line: one thin file per command group. Each command parses, calls one flow or plan, and renders."""
