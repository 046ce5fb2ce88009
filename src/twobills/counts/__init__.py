"""WORK: exact arithmetic on a spec: parameters, FLOPs, bytes, operations. No machine, no time, no money."""
