"""What draws: language models behind `rsalign.core.protocols.Policy`."""
