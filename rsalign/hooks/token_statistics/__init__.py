"""Measures how certain the model is of each token that it draws."""
