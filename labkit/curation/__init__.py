"""What is wrong with data before training: copies, leaks, suspect labels and personal data."""
