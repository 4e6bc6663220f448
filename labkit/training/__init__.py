"""Training: batches, objectives, the loop and its checkpoints."""
