"""Exports: a model's files for other programs, each with the proof that it is the same model there."""
