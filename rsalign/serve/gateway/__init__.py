"""A server of strategies in front of language models that other servers run.

It has OpenAI's endpoints and no engine, so that its process needs neither torch nor vLLM. The
policy is a `VllmServerPolicy` over running servers, which are chosen by the prefix that they have
cached and replaced when they fail; the reward is behind a server, or a function. `body` reads
requests, `reply` writes responses and streams, `app` puts both around an `Aligner`.
"""
