"""What labkit gives other libraries."""
