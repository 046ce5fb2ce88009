"""CLOCKS AND COUNTERS: how long, how many, how many joules. Knows no models and no money."""
