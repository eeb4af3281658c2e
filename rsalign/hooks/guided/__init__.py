"""Draws from the product of the policy and of models that reward each token."""
