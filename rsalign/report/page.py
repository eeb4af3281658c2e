"""write_page(): the answers of a run, and how they came about, as one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from rsalign.aligner.outputs import AlignedOutput
from rsalign.core.budget import Usage
from rsalign.core.errors import ConfigError
from rsalign.report.notes import describe_reward, format_number
from rsalign.report.sections import view_run
from rsalign.report.texts import Clipped, Decode, clip

_MOST_PROMPTS = 50
_MOST_PROPOSALS = 2000
"""Greatest number of proposals on the whole page, so that it stays below about 5 MB."""
_MOST_CHARACTERS = 8000
_TEMPLATES = (
    *("page.html", "parts.html"),
    *("chain.html", "segments.html", "pool.html", "population.html", "tree.html"),
)


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One answer.

    Attributes:
        text: its text.
        reward: None if there is none.
        num_tokens: its number of tokens.
        end: why it is not whole; empty if it ended by itself.
    """

    text: Clipped
    reward: float | None
    num_tokens: int
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """One prompt.

    Attributes:
        anchor: its id on the page.
        name: its number or id.
        prompt: its text.
        answers: the best first; empty if the request failed.
        error: why it failed; None if it did not.
        alignment: how the answers came about.
        sections: the view of the run of each answer.
    """

    anchor: str
    name: str
    prompt: Clipped
    answers: list[AnswerView]
    error: str | None
    alignment: Any
    sections: list[Any]


def write_page(outputs: Sequence[AlignedOutput], path: str | Path, *, decode: Decode) -> None:
    """Writes a page that shows how each answer came about (see the docstring of the package).

    Of a long run only a part is shown, and the page says so.

    Args:
        outputs: as `Aligner.generate` returns them.
        path: the file; an existing one is overwritten.
        decode: from tokens to their text, such as `Aligner.policy.text`; it tells which part of a
            response was kept.

    Raises:
        ConfigError: if the file cannot be written.
    """
    text = render_page(outputs, decode=decode)
    try:
        Path(path).write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot write the page {path}: {error}") from error


def render_page(outputs: Sequence[AlignedOutput], *, decode: Decode) -> str:
    """The HTML of the page; arguments as in `write_page`."""
    shown = outputs[:_MOST_PROMPTS]
    most = _MOST_PROPOSALS // max(1, len(shown))
    done = [output for output in outputs if output.finished]
    rewards = [o.alignment.reward for o in done if o.alignment.reward is not None]
    rendered: str = (
        _environment()
        .get_template("page.html")
        .render(
            prompts=[_prompt(i, output, decode, most) for i, output in enumerate(shown)],
            num_prompts=len(outputs),
            num_failed=len(outputs) - len(done),
            strategies=list(dict.fromkeys(repr(o.alignment.strategy) for o in outputs)),
            seeds=sorted({o.alignment.seed for o in outputs}),
            mean_reward=sum(rewards) / len(rewards) if rewards else None,
            usage=sum((o.alignment.usage for o in done), Usage()),
            style=Markup(_source("style.css")),
        )
    )
    return rendered


def _prompt(index: int, output: AlignedOutput, decode: Decode, most: int) -> PromptView:
    how, anchor = output.alignment, f"p{index}"
    runs = [answer.alignment.trace for answer in output.outputs] or [how.trace]
    return PromptView(
        anchor=anchor,
        name=output.request_id,
        prompt=clip(output.prompt, _MOST_CHARACTERS),
        answers=[
            AnswerView(
                clip(answer.text, _MOST_CHARACTERS),
                answer.reward,
                len(answer.token_ids),
                {"stop": "", "abstained": "no answer"}.get(answer.finish_reason, "cut off"),
            )
            for answer in output.outputs
        ],
        error=None if output.error is None else str(output.error),
        alignment=how,
        sections=[
            view_run(run, how.strategy, decode, most=most // len(runs), anchor=f"{anchor}-{i}")
            for i, run in enumerate(runs)
            if output.error is None
        ],
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=DictLoader({name: _source(name) for name in _TEMPLATES}),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["reward"] = describe_reward
    return environment


def _source(name: str) -> str:
    return files("rsalign.report").joinpath("templates", name).read_text(encoding="utf-8")
