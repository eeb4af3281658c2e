"""Settings and request words: one language, read in one way at every entry point.

`registry` knows every kind of part and its names, `models` reads the texts that name a model, a
server or the user's own code, and `values` converts text and JSON values to the type that a
parameter declares. `build` makes a strategy, a reward or a part from a name and settings. `read`
reads flat keys, objects, ``--set`` arguments and tables into a `Specification`; `request` checks
what a single request may ask for; `parts` turns whatever names a policy, a reward or a strategy
into the object. `fields` says what becomes of each field of vLLM's requests.
"""
