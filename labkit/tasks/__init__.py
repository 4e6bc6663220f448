"""Tasks: from what a learner brings, or the course has, to examples to train on and to be tested on."""
