"""PREDICTED BILLS: usage forecast from specs, priced like any other usage."""
