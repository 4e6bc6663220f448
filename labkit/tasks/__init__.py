"""Tasks: from the data of a learner, or of the course, to examples for training and for testing."""
