"""The public interface of rsalign as text: one line for each name, attribute and method.

``make surface`` writes it to docs/public_interface.txt and prints how that file differs from the
last release's (the latest tag in git). A test compares the file with the sources, so that no change
of the interface goes unnoticed: it is one more line in the difference that a reviewer reads.
griffe reads the sources and imports nothing, so that this takes seconds.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "public_interface.txt"
PACKAGES = (
    "rsalign",
    "rsalign.allocation",
    "rsalign.rewards",
    "rsalign.testing",
    "rsalign.embedded",
)
"""Where every name in ``__all__`` is public."""


def public_interface() -> str:
    """The interface, sorted by name."""
    root = griffe.load("rsalign", search_paths=[str(ROOT)], resolve_aliases=True)
    lines: list[str] = []
    seen: dict[str, str] = {}
    for package in PACKAGES:
        module = root if package == "rsalign" else root[package.removeprefix("rsalign.")]
        for name in sorted(map(str, module.exports or ())):
            public, member = f"{package}.{name}", module[name]
            if isinstance(member, griffe.Alias):
                member = member.final_target
            first = seen.setdefault(member.path, public)
            lines += _lines(public, member) if first == public else [f"{public} is {first}"]
    return "\n".join(lines) + "\n"


def _lines(name: str, member: griffe.Object) -> Iterator[str]:
    if isinstance(member, griffe.Function):
        yield f"{name}{_signature(member)}"
    elif isinstance(member, griffe.Class):
        bases = ", ".join(str(base) for base in member.bases)
        yield f"class {name}({bases})"
        for own, value in sorted(_members(member).items()):
            if isinstance(value, griffe.Function):
                yield f"    {own}{_signature(value)}"
            elif isinstance(value, griffe.Attribute):
                yield f"    {own}: {value.annotation}"
    elif isinstance(member, griffe.Attribute):
        yield f"{name} = {member.value}"
    else:
        yield f"{name}: {member.kind.value}"


def _members(owner: griffe.Class) -> dict[str, griffe.Object | griffe.Alias]:
    members = {**owner.inherited_members, **owner.members}
    return {
        name: member.final_target if isinstance(member, griffe.Alias) else member
        for name, member in members.items()
        if not name.startswith("_") or name in ("__init__", "__call__")
    }


def _signature(function: griffe.Function) -> str:
    shown, star = [], False
    for parameter in function.parameters:
        kind = parameter.kind
        mark = ""
        if kind is griffe.ParameterKind.var_positional:
            mark, star = "*", True
        elif kind is griffe.ParameterKind.var_keyword:
            mark = "**"
        elif kind is griffe.ParameterKind.keyword_only and not star:
            shown.append("*")
            star = True
        annotation = "" if parameter.annotation is None else f": {parameter.annotation}"
        has_default = parameter.default is not None and not mark
        shown.append(
            f"{mark}{parameter.name}{annotation}{f' = {parameter.default}' if has_default else ''}"
        )
    return f"({', '.join(shown)}) -> {function.returns}"


def since_release() -> str:
    """How the file differs from that of the latest tag, as git shows it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    tag = git("describe", "--tags", "--abbrev=0").strip()
    if not tag:
        return "there is no release yet to compare the public interface with\n"
    changed = git("diff", "-U0", tag, "--", str(FILE.relative_to(ROOT)))
    return changed or f"the public interface is that of {tag}\n"


if __name__ == "__main__":
    if "--since-release" in sys.argv:
        sys.stdout.write(since_release())
    elif "--write" in sys.argv:
        FILE.write_text(public_interface(), encoding="utf-8")
    else:
        sys.stdout.write(public_interface())
