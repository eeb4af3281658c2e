"""The static check finds what a release lacks, and reads only that release's branches."""

import pytest
from matrix.static import complaints

RELEASE = {
    "__init__.py": "",
    "new.py": "class Engine:\n    def add(self, name: str, *, priority: int = 0) -> str: ...\n",
}
USE = """\
from typing import TYPE_CHECKING
from rsalign.engines.vllm.release import SINCE_0_33

if SINCE_0_33:
    from vllm.new import Engine
else:
    from vllm.old import Engine


def use(engine: Engine) -> None:
    engine.{call}
"""


@pytest.mark.parametrize(
    ("release", "call", "expected"),
    [
        ("0.33.0", "add('a', priority=1)", None),
        ("0.33.0", "add('a', rank=1)", 'Unexpected keyword argument "rank" for "add"'),
        ("0.33.0", "add()", 'Missing positional argument "name" in call to "add"'),
        ("0.33.0", "abort()", '"Engine" has no attribute "abort"'),
        ("0.32.0", "add('a')", 'stub for module named "vllm.old"'),
    ],
)
def test_what_a_release_lacks_is_found(tmp_path, release, call, expected):
    vllm, ours = tmp_path / "vllm", tmp_path / "rsalign_use.py"
    vllm.mkdir()
    for name, text in RELEASE.items():
        (vllm / name).write_text(text)
    ours.write_text(USE.format(call=call))
    found = complaints(tmp_path, release, [str(ours)])
    if expected is None:
        assert not found
    else:
        (only,) = found
        assert expected in only
