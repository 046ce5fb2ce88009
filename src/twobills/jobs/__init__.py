"""THE TWO JOBS: the only room that imports PyTorch. It yields Usage and knows no money."""
