"""MECHANICS: what happens to requests, without torch and without a clock."""
