"""Evaluation of `rsalign` on real tasks; run by `rsalign sweep`, or from a checkout."""
