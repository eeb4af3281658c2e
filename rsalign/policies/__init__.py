"""What draws: language models behind `rsalign.protocols.Policy`."""
