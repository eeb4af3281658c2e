"""Markov chains over whole responses: what `QAlign`, `Quest` and `Power` have in common.

`kernel` makes one step, `metropolis` has its acceptance probabilities and `cuts` its cut laws;
`ensemble` runs several chains, `history` holds their states, `stopping` ends them early,
`diagnostics` says how far they have mixed, and `markov_chain` is the strategy made of all these.
"""
