"""PRICE: what usage costs."""
