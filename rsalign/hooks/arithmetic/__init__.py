"""Arithmetic sampling: spreads the samples of one request evenly."""
