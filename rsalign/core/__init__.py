"""The core that every method builds on: keys, values, protocols, runs, budgets and journals."""
