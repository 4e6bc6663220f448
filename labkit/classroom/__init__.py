"""Exercises: checks, hints and what they say."""
