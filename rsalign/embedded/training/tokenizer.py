"""The tokenizer of the embedded models: byte-level BPE, so that any text can be encoded."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rsalign.core.key import Key
from rsalign.embedded.problems import Problem

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
RESERVED = tuple(f"<|reserved_{i}|>" for i in range(8))
"""Ids that no text contains and the policy never produces: free for sentinels."""

VOCAB_SIZE = 640
MAX_LENGTH = 512

# A turn is its role, its text and EOS. The answer's own turn is opened by the generation prompt,
# and the EOS that closes it is the one the policy draws.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not (loop.last and continue_final_message | default(false)) %}{{ '</s>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(problems: list[Problem], key: Key) -> PreTrainedTokenizerFast:
    """Trains a tokenizer in which every number from 2 to 60 is a single token.

    Raises:
        RuntimeError: if a number takes several tokens, because the vocabulary is too small.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, BOS, EOS, *ROLES, *RESERVED],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        f"{problem.question}\n{problem.solution(key.child(i))}"
        for i, problem in enumerate(problems)
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[*ROLES, *RESERVED],
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    split = [
        n for n in range(2, 61) if len(tokenizer.encode(f" {n}", add_special_tokens=False)) != 1
    ]
    if split:
        raise RuntimeError(f"the numbers {split} take several tokens: raise VOCAB_SIZE")
    return tokenizer


def never_drawn(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids that the policy must never sample: all special tokens but EOS."""
    return sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})


def encode_prompt(tokenizer: PreTrainedTokenizerFast, problem: Problem) -> list[int]:
    """Token ids of the chat prompt, ready for the policy to continue."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": problem.question}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer.encode(text, add_special_tokens=False))
