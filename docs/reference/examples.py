"""Lets mkdocstrings show the examples of documentation strings as code, under their own heading."""

import re
from typing import Any

import griffe

_HEADING = re.compile(r"^Example:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Reads ``Example:`` as ``Examples:``, the only one of the two that its parser knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Is called for each object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = _HEADING.sub("Examples:", obj.docstring.value)
