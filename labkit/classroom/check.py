"""Checks of the exercises: ``check.<name>(your answer)``, and ``check.hint(name)``.

A check never raises: it says what is right, what is a typical mistake, or that nothing was tried yet.
"""
