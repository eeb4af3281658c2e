"""Serving: vLLM's own OpenAI application over an engine client that answers by strategies.

The life of ``POST /v1/chat/completions`` with ``{"rsalign": {"strategy": "best_of", "n": 4}}``:

 1. `app.StreamCloser` (middleware) passes it on, and closes its streams at the end.
 2. `handlers.AlignedHandler` reads what it asks for in body, model name and ``vllm_xargs``;
    `errors` refuses fields that no strategy can honour.
 3. `rules.RequestRules` turns that into a `StrategyRequest`, within the server's limits.
 4. A `served_request.ServedRequest` in a context variable goes along while vLLM's own handler
    parses, renders the chat template and calls the engine client.
 5. `client.AlignedClient.generate` finds it there, and makes a `prompt_job.PromptJob` of the
    prompt, `SamplingParams` and seed; `rules.Admission` makes room for it or refuses it.
 6. The job calls `rsalign.core.answer.answer`, as every door does. The strategy draws and judges
    through `request_engine.RequestEngine`, a view of the shared engine, and
    `guarded_reward.GuardedReward`; `observe` counts.
 7. The job yields vLLM's outputs: one at the end, or pieces from `delta_stream.DeltaStream`.
 8. vLLM's handler makes the response or its events; `responses` adds the ``rsalign`` block and the
    tokens drawn, and keeps a silent stream alive.

A request without a strategy goes from 2 to vLLM's handler and on to the engine as it came.

`launch` starts a server process (``rsalign serve``) from `options`; `plugin` does steps 1 to 8
under a stock ``vllm serve``. vLLM's internals are in `rsalign.engines.vllm`.
"""
