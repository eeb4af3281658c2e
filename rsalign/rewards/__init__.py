"""What judges: models and functions behind `rsalign.protocols.Reward`."""
