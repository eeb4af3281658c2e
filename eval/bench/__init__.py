"""`python -m eval.bench`: rsalign next to other engines and published loops, as ratios."""
