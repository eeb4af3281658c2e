"""The words of a request: what they are called and what becomes of each."""
