"""What every method is made of: addresses, values, protocols, runs, budgets and journals."""
