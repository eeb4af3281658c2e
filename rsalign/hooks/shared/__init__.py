"""What the hooks share: their arguments, their memory, their reports."""
