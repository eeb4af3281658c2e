"""The report's own scripts, which its pages allow by their digest and nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

_TEMPLATES = Path(__file__).parent / "templates"


def read_script(name: str) -> str:
    """A script of ``templates/``."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def digest_list(scripts: Sequence[str]) -> str:
    """The sources that a Content-Security-Policy allows for these inline scripts.

    >>> digest_list(["1"])
    "'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
