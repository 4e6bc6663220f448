"""Comparisons that take longer than a lesson."""
