"""Comparisons of methods and settings: their runs, their stored results, and ``labkit bench``."""
