"""Tests use what users use: no private name of an object or module, but for stated exceptions."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
OF_OTHERS = {
    "_exit": "`os._exit` is public in spite of its name",
    "_preprocess_chat_one": "of vLLM, which has no public name for what it renders",
    "_preempt_request": "of vLLM's scheduler: preemption cannot be asked for otherwise",
    "_rebind_kernels": "of vLLM: the call that a mend of ours makes possible",
    "_vocab_dict": "of a tokenizer: another vocabulary is planted",
    "_attn_implementation": "of transformers, where the choice of attention can be read",
    "_actions": "of argparse, which has no public list of its flags",
    "_patch_lang": "of Triton's interpreter, which the harness of v2 mends",
    "_implicit_cvt": "of Triton's interpreter, likewise",
}
"""Private names of other libraries, and why there is no public way."""
OF_RSALIGN = {
    "_weights": "a planted mistake replaces the weights of cuts",
    "_draw": "counts draws, whose results are public",
    "_resampled": "a planted mistake replaces the resampling of particle Gibbs",
    "_round": "a planted mistake in the rounds of a particle filter",
    "_take": "a planted mistake in what a resampled particle takes over",
    "_rejuvenate": "a planted mistake in the moves of a particle filter",
    "_starts": "the exact law of a chain's first states is enumerated",
    "_known": "a cache has a bound",
    "_values": "likewise",
    "_read": "a memory of guides has a bound",
    "_memory": "rows of a hook are given back",
    "_place": "likewise",
    "_model": "the token that no answer has, which ends segments",
    "_specials": "how often a tokenizer is asked is counted",
    "_parts": "parts are replaced as the methods of an aligner do before a run",
}
"""Private names of rsalign that tests may use, and what for."""


def find_private_names(source: str) -> dict[str, int]:
    """Private names that are read from anything but ``self`` and ``cls``, and their lines."""
    return {
        node.attr: node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def test_private_names_are_found():
    source = "self._a\nx._b\nf().__class__\nsuper()._c()\nx.y._d = 1\n"
    assert find_private_names(source) == {"_b": 2, "_c": 4, "_d": 5}


def test_tests_use_no_private_names():
    found = {}
    for path in TESTS.rglob("*.py"):
        for name, line in find_private_names(path.read_text()).items():
            found.setdefault(name, []).append(f"{path.relative_to(TESTS)}:{line}")
    allowed = OF_OTHERS.keys() | OF_RSALIGN.keys()
    assert not {name: places for name, places in found.items() if name not in allowed}
    assert allowed == found.keys(), "an exception that nothing needs"
