"""What is public is what the documentation uses, and no change of it goes unnoticed."""

import ast
import difflib
import doctest
import importlib
import re
from pathlib import Path

import pytest
from surface import FILE, PACKAGES, public_interface, since_release

import rsalign
from rsalign.public_names import PUBLIC_NAMES

ROOT = Path(rsalign.__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def imported(code):
    """Names of rsalign that a piece of code imports, or takes from the package by a dot."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rsalign":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name for name in names if name.startswith("rsalign."))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "rsalign":
            yield f"rsalign.{node.attr}"


def is_public(name):
    package, _, last = name.rpartition(".")
    return name in PACKAGES or (
        package in PACKAGES and last in importlib.import_module(package).__all__
    )


def examples():
    """Code of the pages and of the examples in the docstrings of what is public."""
    for page in PAGES:
        for index, code in enumerate(CODE.findall(page.read_text(encoding="utf-8"))):
            yield f"{page.name} {index}", code
    parser = doctest.DocTestParser()
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            public = getattr(importlib.import_module(package), name)
            members = vars(public).values() if isinstance(public, type) else ()
            for member in (public, *members):
                text = getattr(member, "__doc__", None)
                if isinstance(text, str) and not isinstance(member, str):
                    code = "".join(each.source for each in parser.get_examples(text))
                    if code:
                        yield f"{package}.{name}", code


def test_the_documentation_imports_what_is_public():
    private = {
        f"{place}: {name}"
        for place, code in examples()
        for name in imported(code)
        if not is_public(name)
    }
    assert not private, "name these in rsalign.__all__, or show something public instead"


def test_the_documentation_is_read():
    assert "rsalign.Aligner" in {name for _, code in examples() for name in imported(code)}
    assert [*imported("from rsalign.core.key import Key\nrsalign.Nothing")] == [
        "rsalign.core.key.Key",
        "rsalign.Nothing",
    ]
    assert not is_public("rsalign.core.key.Key")
    assert not is_public("rsalign.Nothing")


def test_type_checkers_and_python_find_the_same_names():
    tree = ast.parse(Path(rsalign.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    checked = {
        alias.asname or alias.name: f"{node.module}" for node in block.body for alias in node.names
    }
    loaded = {name: module for module, names in PUBLIC_NAMES.items() for name in names.split()}
    assert checked == loaded
    assert sorted(loaded) == rsalign.__all__
    assert {*rsalign.__all__} <= {*dir(rsalign)}
    for name in rsalign.__all__:
        assert getattr(rsalign, name) is getattr(rsalign, name)


def test_no_two_public_names_mean_the_same_or_one_name_two_things():
    means = {name: getattr(rsalign, name) for name in rsalign.__all__}
    assert len({*map(id, means.values())}) == len(means)
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in {*module.__all__} & {*means}:
            assert getattr(module, name) is means[name]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rsalign' has no attribute 'BestOff'"):
        _ = rsalign.BestOff
    with pytest.raises(ImportError):
        exec("from rsalign import BestOff")


def test_the_public_interface_is_the_one_on_file():
    recorded = FILE.read_text(encoding="utf-8").splitlines()
    changed = "\n".join(
        difflib.unified_diff(recorded, public_interface().splitlines(), n=0, lineterm="")
    )
    assert not changed, f"if it is meant, run `make surface` and commit the file:\n{changed}"
    assert since_release()
