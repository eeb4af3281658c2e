"""From messages to a prompt, from tokens to text, and from files to rows."""
