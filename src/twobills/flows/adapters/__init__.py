"""Meters and loads for programs that are not ours."""
