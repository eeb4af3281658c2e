"""Where a segment may end: values that a policy honours while it draws."""
