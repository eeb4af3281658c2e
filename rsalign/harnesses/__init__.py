"""Evaluation harnesses of others, with aligned answers: what they call a model is made here."""
