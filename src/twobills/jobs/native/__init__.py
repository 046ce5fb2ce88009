"""Training's kernels for CPUs with bf16 product instructions: C++ sources, compiled on the machine that runs them."""
