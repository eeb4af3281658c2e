"""Writes the pages of the reference from the code, while mkdocs builds the site.

Everything that is public has a documentation string, or the build fails.
"""

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import mkdocs_gen_files
from links import COPIES

import rsalign
from rsalign.cli.main import build_parser
from rsalign.core import errors
from rsalign.words.registry import KINDS

ROOT = Path(rsalign.__file__).parents[1]
PACKAGES = ("rsalign", "rsalign.rewards", "rsalign.testing", "rsalign.embedded")
FENCE = "```"


def write(name: str, text: str) -> None:
    """Writes a page of the reference."""
    with mkdocs_gen_files.open(f"reference/{name}", "w") as file:
        file.write(text.rstrip() + "\n")


def first_paragraph(thing: object) -> str:
    """What a documentation string says first, in one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def cell(text: object) -> str:
    """Text for a table: a bar would end its cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def api() -> str:
    """Every public name, with what its documentation string says.

    Raises:
        ValueError: if one has none.
    """
    lines = ["# Public interface", "", "Names of `rsalign` are loaded at their first use.", ""]
    shown: set[str] = set()
    for package in PACKAGES:
        module = importlib.import_module(package)
        lines += [f"## `{package}`", ""]
        for name in module.__all__:
            value = getattr(module, name)
            where = getattr(value, "__module__", None)
            is_object = inspect.isclass(value) or inspect.isroutine(value)
            if is_object and not inspect.getdoc(value):
                raise ValueError(f"{package}.{name} is public and has no documentation string")
            path = f"{where}.{value.__qualname__}" if is_object else f"{package}.{name}"
            if is_object and path not in shown:
                lines += [f"::: {path}", "    options: {heading_level: 3}", ""]
            elif path not in shown:
                # where griffe finds it: a variable with a string below, or a table of names
                lines += [f"### `{name}`", "", f"`{package}.{name}`: {type(value).__name__}.", ""]
            shown.add(path)
    return "\n".join(lines)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A command and all commands below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def command_line() -> str:
    """What every command says to ``--help``."""
    lines = ["# Command line", ""]
    for parser in parsers(build_parser()):
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
        lines += [f"## {parser.prog}", "", f"{FENCE}text", parser.format_help().rstrip(), FENCE, ""]
    return "\n".join(lines)


def settings(made: Callable[..., Any]) -> Iterator[tuple[str, str, Any]]:
    """Name, type and default of each setting of a part; MISSING where there is no default."""
    if is_dataclass(made):
        for field in fields(made):
            default = field.default
            if default is MISSING and field.default_factory is not MISSING:
                default = field.default_factory()
            if field.init and not field.name.startswith("_"):
                yield field.name, str(field.type), default
        return
    for name, parameter in inspect.signature(made).parameters.items():
        empty = parameter.default is parameter.empty
        kind = "" if parameter.annotation is parameter.empty else str(parameter.annotation)
        yield name, kind, MISSING if empty else parameter.default


def request_words() -> str:
    """All parts that settings can name, at every door."""
    lines = [
        "# Words of requests",
        "",
        "What an `rsalign` object in the body of a request, `--set` and sweeps name. Settings of",
        "a part within a part are written with a dot (`threshold.target`). The same as a schema of",
        "OpenAPI: [openapi.json](openapi.json).",
        "",
    ]
    for kind in KINDS.values():
        if not kind.known:
            continue
        lines += [f"## {kind.word}", ""]
        for name, made in sorted(kind.known.items()):
            lines += [f"### `{name}`", "", first_paragraph(made) if callable(made) else "", ""]
            rows = list(settings(made)) if callable(made) else []
            if rows:
                lines += ["| setting | type | default |", "|---|---|---|"]
                for setting, declared, default in rows:
                    told = "" if default is MISSING else f"`{cell(default)}`"
                    lines.append(f"| `{setting}` | {cell(declared)} | {told} |")
                lines.append("")
    return "\n".join(lines)


_JSON_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}


def schema_of(declared: str, default: Any) -> dict[str, Any]:
    """The JSON schema of a setting: of numbers and text its type; of a part its name or object."""
    kinds = {_JSON_TYPES[one] for one in re.findall(r"\b(int|float|bool|str)\b", declared)}
    if not kinds:
        kinds = {"string", "object"}
    shown: dict[str, Any] = {"type": sorted(kinds)}
    if isinstance(default, bool | int | float | str):
        shown["default"] = default
    return shown


def openapi() -> str:
    """An OpenAPI schema of the ``rsalign`` object in the body of a request."""
    strategies = {}
    for name, made in sorted(KINDS["strategy"].known.items()):
        own = {
            setting: schema_of(declared, default) for setting, declared, default in settings(made)
        }
        strategies[name] = {
            "type": "object",
            "description": first_paragraph(made),
            "properties": {"strategy": {"const": name}, **own},
            "additionalProperties": True,  # settings of parts, such as threshold.target
        }
    post = {
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "description": "OpenAI's request, and rsalign's object.",
                        "properties": {"rsalign": {"$ref": "#/components/schemas/Rsalign"}},
                        "additionalProperties": True,
                    }
                }
            }
        },
        "responses": {"200": {"description": "OpenAI's response, with an `rsalign` object."}},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "rsalign serve", "version": rsalign.__version__},
        "paths": {f"/v1/{path}": {"post": post} for path in ("chat/completions", "completions")},
        "components": {
            "schemas": {
                "Rsalign": {"anyOf": [{"$ref": f"#/components/schemas/{n}"} for n in strategies]},
                **strategies,
            }
        },
    }
    return json.dumps(document, indent=1, default=str)


def configuration_groups() -> str:
    """The choices of each group of ``conf/``, as they are."""
    lines = [
        "# Settings of sweeps",
        "",
        "`rsalign sweep GROUP=CHOICE GROUP.SETTING=VALUE`. The files are in `conf/`.",
        "",
    ]
    conf = ROOT / "conf"
    for path in sorted(conf.rglob("*.yaml"), key=lambda one: (one.parent != conf, str(one))):
        relative = path.relative_to(conf).with_suffix("")
        title = str(relative) if relative.parent == Path() else f"{relative.parent}={relative.name}"
        text = path.read_text(encoding="utf-8").rstrip()
        lines += [f"## {title}", "", f"{FENCE}yaml", text, FENCE, ""]
    return "\n".join(lines)


def error_classes() -> str:
    """All errors and what they mean."""
    tree = re.search(r"\n\n(    RsalignError.*?)\n\n", errors.__doc__ or "", re.DOTALL)
    lines = ["# Errors", "", f"{FENCE}text", inspect.cleandoc(tree[1]) if tree else "", FENCE, ""]
    lines += ["| error | means |", "|---|---|"]
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.RsalignError):
            lines.append(f"| `{name}` | {cell(first_paragraph(value))} |")
    return "\n".join(lines)


def metrics() -> str:
    """The Prometheus metrics, read from where they are declared."""
    path = ROOT / "rsalign" / "serve" / "telemetry.py"
    lines = ["# Metrics", "", "At `/metrics` of `rsalign serve`, beside vLLM's own.", ""]
    lines += ["| metric | kind | what it counts |", "|---|---|---|"]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        name = getattr(node.targets[0], "id", "") if isinstance(node, ast.Assign) else ""
        kind = {"_COUNTERS": "counter", "_GAUGES": "gauge", "_HISTOGRAMS": "histogram"}.get(name)
        if kind is None or not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
            continue
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            text = value.elts[0] if isinstance(value, ast.Tuple) else value
            said = ast.literal_eval(text)
            lines.append(f"| `rsalign:{ast.literal_eval(key)}` | {kind} | {cell(said)} |")
    lines += [
        "| `rsalign:requests` | counter | Requests that asked for a strategy, by outcome. |",
        "| `rsalign:requests_refused` | counter | Requests that were refused, by reason. |",
    ]
    return "\n".join(lines)


def records() -> str:
    """What a line of ``records.jsonl`` holds, from the function that makes it."""
    tree = ast.parse((ROOT / "eval" / "record.py").read_text(encoding="utf-8"))
    (made,) = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "make_record"
    ]
    lines = [
        "# Records of sweeps",
        "",
        "One line of `records.jsonl` for each configuration, item and seed, and the same in",
        "`records.parquet`. Written by `eval.record.make_record`:",
        "",
        f"{FENCE}text",
        inspect.cleandoc(ast.get_docstring(made) or ""),
        FENCE,
        "",
        "| field | made by |",
        "|---|---|",
    ]
    for node in ast.walk(made):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant):
                    lines.append(f"| `{key.value}` | `{cell(ast.unparse(value))}` |")
    return "\n".join(lines)


def main() -> None:
    """Writes all pages."""
    pages = {
        "api.md": api,
        "command_line.md": command_line,
        "request_words.md": request_words,
        "openapi.json": openapi,
        "settings.md": configuration_groups,
        "errors.md": error_classes,
        "metrics.md": metrics,
        "records.md": records,
    }
    titles = {
        name: name[:-3].replace("_", " ").capitalize() for name in pages if name[-3:] == ".md"
    }
    listed = [f"- [{title}]({name})" for name, title in titles.items()]
    heading = ["# Reference", "", "Generated from the code of this version.", ""]
    write("index.md", "\n".join([*heading, *listed]))
    for name, made in pages.items():
        write(name, made())
    for source, copy in COPIES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        with mkdocs_gen_files.open(copy, "w") as file:
            file.write(re.sub(r"\]\((?:\.\./)*docs/", "](" + "../" * copy.count("/"), text))


main()
