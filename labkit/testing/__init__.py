"""Test notebooks: numbers within a tolerance."""
