"""The adapter to vLLM, and the only package that imports vLLM's internals (ruff enforces it).

Public names (`vllm.SamplingParams`, `vllm.RequestOutput`, `vllm.outputs`, `vllm.sampling_params`,
`vllm.config`) may be used elsewhere, too. For a new release of vLLM, read this package and compare
each module with what it takes from vLLM:

- `release`: which release is installed; the only names that other modules branch on.
- `environment`: environment variables and the version; `vllm.platforms`.
- `context_length`: `EngineArgs.create_model_config` and `create_engine_config`,
  `ModelConfig.original_max_model_len`.
- `cpu_speculation`: replaces `vllm.v1.sample.rejection_sampler.expand_batch_to_tokens`, and
  ``vars`` in `vllm.triton_utils.dispatcher`.
- `costs`: `CacheConfig.enable_prefix_caching`, `block_size`.
- `adopted`: `SchedulerConfig.enable_chunked_prefill`.
- `building`: `EngineArgs`, `AsyncEngineArgs`, `LLMEngine.from_vllm_config`,
  `AsyncLLM.from_vllm_config`, `ParallelConfig.worker_extension_cls`.
- `starting`: the classes `LLM`, `LLMEngine` and `AsyncLLM`, to recognise an engine of the caller's.
- `inprocess`: `LLMEngine.add_request`, `step`, `abort_request`, `engine_core.shutdown`,
  `output_processor.request_states`; the classes `InprocClient` and `UniProcExecutor`.
- `stepper`: replaces `vllm.v1.engine.core.cleanup_dist_env_and_memory`.
- `asynchronous`: `AsyncLLM.generate`, `encode`, `abort`, `collective_rpc`, `shutdown`,
  `output_handler`, `output_processor`, `errored`, `dead_error`; `vllm.v1.engine.exceptions`.
- `requests`: the fields of `SamplingParams`, `PoolingParams` and of their outputs.
- `errors`: `vllm.exceptions`.
- `start_errors`: parts of the messages of vLLM's loader.
- `model_folder`: `QUANTIZATION_METHODS`.
- `adapter`: `LoRARequest`, the values of `LoRAConfig.max_lora_rank`.
- `identity`: the fields of `VllmConfig` that change what a model computes.
- `text`: tokenizers, the renderer of conversations, `IncrementalDetokenizer`.
- `llm_class`: how `vllm.LLM` reads the arguments of `generate` and `chat`: `prompt_to_seq`,
  `conversation_to_seq`, `_params_to_seq`, `_preprocess_cmpl_one`, `_preprocess_chat_one`.
- `logits_processors`, `logits_processors_v1`, `logits_processors_v2`: the choice of the model
  runner, and the interface of logits processors in each.
- `tensors`: `async_tensor_h2d`, and the sampler's `apply_top_k_top_p`.
- `openai_app`: the flags, the application, the handlers and the errors of ``vllm serve``.

`watchdog` takes nothing from vLLM. Importing one of these modules imports no more of vLLM than it
names here, and those that policies and rewards import do so only when they are called.
"""
