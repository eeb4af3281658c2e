"""The command line of `rsalign`, with one module per command."""
