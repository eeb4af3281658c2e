"""The answers of an OpenAI-compatible server: its models, its completions, its errors."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsalign.core.cancelled_draws import report_cancelled_draw
from rsalign.core.errors import ConfigError, InstallError, PolicyError
from rsalign.engines.model_files import ModelFiles

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model behind a server.

    Attributes:
        name: the name that requests give.
        root: Hugging Face id or path that its tokenizer can be loaded from.
        max_model_len: greatest length of prompt and response; None if the server does not say.
        adapter: id or path of the adapter that the name stands for; None for a base model.
        version: of vLLM; None if the server does not say.

    Example:
        >>> listed = {"data": [{"id": "tiny", "root": "org/tiny", "max_model_len": 512}]}
        >>> ServedModel.choose(listed, None, "http://localhost:8000").root
        'org/tiny'
    """

    name: str
    root: str
    max_model_len: int | None
    adapter: str | None = None
    version: str | None = None

    @classmethod
    def choose(cls, listed: Any, model: str | None, address: str) -> "ServedModel":
        """Returns one of the models that ``GET /v1/models`` lists.

        Args:
            listed: the server's answer.
            model: the name; None takes the only base model.
            address: of the server, for messages.

        Raises:
            ConfigError: if there is no such model, or no name and several base models.
        """
        if not isinstance(listed, dict) or not listed.get("data"):
            raise ConfigError(
                f"{address} lists no models at /v1/models, but answers {str(listed)[:200]!r}: give "
                "the address of an OpenAI-compatible server"
            )
        cards = {card["id"]: card for card in listed["data"]}
        # a server lists adapters beside their base model, and a model under each of its names
        bases = {
            card.get("root") or name: name
            for name, card in reversed(cards.items())
            if not card.get("parent")
        }
        if model is None and len(bases) == 1:
            (model,) = bases.values()
        if model is None or model not in cards:
            raise ConfigError(
                f"model={model!r}, but {address} serves {', '.join(map(repr, cards))}: choose one "
                "of these"
            )
        card = cards[model]
        base = cards.get(card.get("parent"), card)
        root = base.get("root") or base["id"]
        adapter = None if base is card else card.get("root") or model
        return cls(model, root, card.get("max_model_len"), adapter)

    @property
    def identity(self) -> str:
        """A text that is equal for equal models, whatever server they are on.

        A model or an adapter whose path exists on this machine, too, is identified by the content
        of its files. Any other is identified by what the server says: the name, and the id or path
        that it stands for. A server does not say whether the files there were retrained.
        """
        roots = [root for root in (self.root, self.adapter) if root is not None]
        known = [ModelFiles.of(root) for root in roots if Path(root).exists()]
        told = [files.digest() for files in known]
        if len(known) < len(roots):
            told += [self.name, *roots]
        return " ".join([*told, f"vLLM {self.version}" if self.version else ""]).rstrip()

    def tokenizer(self, given: Any = None) -> Any:
        """Returns a tokenizer: the one given, or one loaded from a given id or path, or the root.

        Args:
            given: a tokenizer, a Hugging Face id or a path; None loads it from `root`.

        Raises:
            InstallError: if transformers is missing.
            ConfigError: if it cannot be loaded here.
        """
        if given is not None and not isinstance(given, str | os.PathLike):
            return given
        try:
            from transformers import AutoTokenizer
        except ImportError as missing:
            raise InstallError(f"a tokenizer needs transformers: {missing}") from missing
        source = os.fspath(given or self.root)
        try:
            # False: transformers would else ask on the terminal whether to run the model's code
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as missing:
            raise ConfigError(
                f"the tokenizer of {self.name!r} cannot be loaded from {source!r} on this machine: "
                "give tokenizer=..., a Hugging Face id, a path or a tokenizer"
            ) from missing


@dataclass(slots=True)
class StreamedCompletion:
    """The part of a streamed completion that has arrived.

    Attributes:
        tokens: the drawn ids.
        log_probs: one per token, nats; empty if the server was not asked for them.
        finish_reason: ``"stop"``, ``"length"`` or another word of the server's; None: still open.
        stop_reason: the stop string or the id of the stop token; None for the end of sequence.
        cached_tokens: of the prompt, if the server reports them.
    """

    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    cached_tokens: int = 0

    @classmethod
    async def draw(cls, client: "AsyncOpenAI", request: dict[str, Any]) -> "StreamedCompletion":
        """Requests one completion and reads it to its end.

        If the call is cancelled, the tokens that had arrived are reported
        (`rsalign.core.cancelled_draws`).

        Raises:
            ConfigError: if the server sends text without its token ids.
            ConnectionError: if the server shut down while it answered.
        """
        from openai import AsyncStream

        arrived = cls()
        try:
            async with await client.post(
                "/v1/completions",
                cast_to=object,
                body=request | {"stream": True, "stream_options": {"include_usage": True}},
                stream=True,
                stream_cls=AsyncStream[object],
            ) as stream:
                async for event in _events(stream.response):
                    arrived._add(event)
        except asyncio.CancelledError:
            report_cancelled_draw(tuple(request["prompt"]), tuple(arrived.tokens))
            raise
        if arrived.finish_reason in (None, "abort"):
            raise ConnectionError("the server shut down while it answered")
        return arrived

    def _add(self, event: Any) -> None:
        details = (event.get("usage") or {}).get("prompt_tokens_details") or {}
        self.cached_tokens = details.get("cached_tokens") or self.cached_tokens
        for choice in event["choices"]:
            tokens = choice.get("token_ids")
            if tokens is None and choice.get("text"):
                raise ConfigError(
                    "the server sends no token ids (return_token_ids): use vLLM's, or another that "
                    "sends them"
                )
            self.tokens += tokens or ()
            self.log_probs += (choice.get("logprobs") or {}).get("token_logprobs") or ()
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.stop_reason = choice.get("stop_reason", self.stop_reason)


async def _events(response: Any) -> AsyncGenerator[Any, None]:
    """Yields the objects of an event stream, to its very end.

    The client's own iterator stops before the end, and stray tasks close the rest later.
    """
    from openai import APIError

    lines = response.aiter_lines()
    while True:
        try:
            line = await anext(lines, None)
        except Exception as broken:  # of httpx or httpx2, whichever the client is built on
            raise ConnectionError("the connection broke") from broken
        if line is None:
            return
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                error = event["error"]
                raise APIError(str(error.get("message")), request=response.request, body=error)
            yield event


class Unavailable(Exception):  # noqa: N818 - another replica may answer; no user sees it
    """A server could not be reached, broke the connection or is overloaded.

    Attributes:
        silent: whether it accepted the request and then sent nothing for too long.
    """

    def __init__(self, said: str, *, silent: bool = False) -> None:
        super().__init__(said)
        self.silent = silent


class ServerRefusedError(ConfigError):
    """A server refuses a request that would be refused again: its settings or ours are wrong."""


def convert_server_error(error: "APIError | ConnectionError") -> Exception:
    """Returns the error to raise instead: `Unavailable`, `ConfigError` or `PolicyError`."""
    from openai import APIConnectionError

    if isinstance(error, APIConnectionError | ConnectionError):
        cause = error.__cause__ or error
        silent = type(cause).__name__ in ("ReadTimeout", "WriteTimeout")
        said = "it took the request and fell silent: raise timeout_seconds if it is only slow"
        return Unavailable(said if silent else str(cause) or repr(cause), silent=silent)
    body = error.body if isinstance(error.body, dict) else {}
    # an error within a stream has its status in the body only
    status = getattr(error, "status_code", None) or body.get("code")
    said = f"{body.get('message') or error.message} (status {status})"
    where = error.request.url
    # a failure of the server itself may pass; one within a stream is that of the request
    if status in (429, 502, 503, 504) or getattr(error, "status_code", None) == 500:
        return Unavailable(said)
    if status in (401, 403):
        return ServerRefusedError(
            f"{where} does not accept the API key: {said}: give api_key=... or set OPENAI_API_KEY"
        )
    if status in (400, 404, 405, 413, 422):
        return ServerRefusedError(f"{where} refuses this request: {said}")
    return PolicyError(f"{where} failed: {said}: the server's log may say why")
