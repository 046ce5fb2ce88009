"""The network that both jobs run."""
