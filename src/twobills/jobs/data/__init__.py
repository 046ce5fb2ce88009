"""What a model learns from: any source becomes documents, then tokens, then batches that are a function of the step."""
