"""Training data from records: scored groups, preference pairs and accepted answers."""
