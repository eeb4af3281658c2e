"""Settings and request words: one language, read in one way at every door.

`registry` knows every kind of part by name, `values` turns text and JSON values into what a field
is declared as, `build` makes a strategy or a part of names and settings, `read` turns flat keys,
objects, ``--set`` arguments and tables into one `Specification`, and `parts` finds policies and
rewards from whatever names them; `fields` says what becomes of each field of vLLM's requests.
"""
