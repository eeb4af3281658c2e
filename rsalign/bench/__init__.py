"""`rsalign bench`: what rsalign costs, as ratios within one run; never a test."""
