"""twobills plans, runs, meters and reconciles the two bills of an AI model: training and inference.

Importing this package never imports PyTorch. The rooms are its sub-packages; ``docs/architecture.md`` is the map.
"""

__version__ = "0.1.0"
