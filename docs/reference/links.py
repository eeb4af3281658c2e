"""Leads links from pages to files outside of ``docs/`` to the copies that the site has of them."""

import re
from typing import Any

COPIES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "rsalign/embedded/models/README.md": "reference/embedded_models.md",
}
"""Pages of the site by the files that they are copies of; `generate.py` makes them."""

_LINK = re.compile(r"\]\((?:\.\./)+([\w./-]+\.md)(#[\w-]+)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Is called by mkdocs for each page."""
    up = "../" * page.file.src_uri.count("/")

    def lead(link: re.Match[str]) -> str:
        copy = COPIES.get(link[1])
        return link[0] if copy is None else f"]({up}{copy}{link[2] or ''})"

    return _LINK.sub(lead, markdown)
