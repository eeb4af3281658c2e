"""Pure decision rules and estimators: no await, no I/O, no randomness."""
