"""Assets: the pinned models and texts of the course, and how they are downloaded."""
