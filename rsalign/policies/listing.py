"""Policies in vLLM that list the most probable tokens (`rsalign.core.most_probable`)."""

from dataclasses import replace
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.most_probable import GreedySegment
from rsalign.core.types import Tokens
from rsalign.policies.drawn import read_segment


class Listing:
    """Gives a policy over a vLLM engine the ability `rsalign.core.most_probable.ListsTokens`."""

    __slots__ = ()

    async def most_probable(
        self: Any, prefix: Tokens, *, max_new_tokens: int, num: int
    ) -> GreedySegment:
        """Continues a prefix greedily, with the `num` most probable tokens at each place.

        Raises:
            ConfigError: if the engine was not started with ``max_logprobs`` of at least `num`, or
                reports raw log-probabilities that are not those of the law.
        """
        law, config = self.sampling, self.engine.vllm_config
        most = config.model_config.max_logprobs
        if 0 <= most < num:
            raise ConfigError(
                f"{num} most probable tokens at each place: this engine lists {most} at most; "
                f"start it with max_logprobs={num}"
            )
        self._check(prefix, max_new_tokens)
        greedy = replace(
            self,
            sampling=replace(law, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0),
            options=replace(self.options, num_logprobs=num, logprob_token_ids=(), code=None),
        )
        tokenization = self._model.tokenization
        room = min(max_new_tokens, tokenization.max_model_len - len(prefix))
        stop = tokenization.engine_stops(prefix, law.stop)
        drawn = await self.engine.draw(greedy._request(prefix, room, Key(0), {}, stop))
        # as drawn from the model's law: a greedy law would say that each token was certain
        segment = read_segment(drawn, room, replace(law, temperature=1.0), self._model.eos)
        listed = tuple(
            tuple(
                (token, min(0.0, one.logprob))
                for token, one in sorted(place.items(), key=lambda item: item[1].rank)[:num]
            )
            for place in drawn.listed or ()
        )
        plain = segment.log_probs and tuple(map(float, segment.log_probs))
        eos = () if law.ignore_eos else tuple(sorted(self._model.eos))
        return GreedySegment(replace(segment, log_probs=plain), listed, eos)
