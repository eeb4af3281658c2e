"""Text: messages and chat templates, detokenization, and rows of data files."""
