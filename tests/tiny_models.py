"""Tiny random language models and tokenizers for tests: built in memory, in a fraction of a second, always the same.

    lm = build_tiny_llama()  # 3 blocks of width 32, byte-level BPE with a BOS

The weights are random but not near zero, so that the logits of different tokens are clearly apart.
"""

import json
from typing import Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel

TokenizerKind = Literal["plain", "bos", "metaspace"]

CONTEXT_LENGTH = 256
CORPUS = (
    "The mother tongue of Danielle Darrieux is French.",
    "Mara Lind was born in Velden and works for Hexatech.",
    "Kara Quinwick plays the piano; Gira Corley is by trade a painter.",
    "Question: How many coins does Alra have? Answer: She has 3 + 4 = 7 coins. #### 7",
    "The harbour of Belton lies in the north. True or False? Yes or no? Positive or negative?",
    "Text: Mara Lind went to Velden.\nEntities: person: Mara Lind; location: Velden",
    "In 1998 the company moved from Calton to New Avaria, where it employs 250 people.",
    "Zoë's café isn't far from São Paulo, Łódź or 東京.",
)


def build_tokenizer(kind: TokenizerKind = "plain") -> PreTrainedTokenizerFast:
    """A tokenizer trained on `CORPUS`.

    plain: byte-level BPE like GPT-2's, nothing added. bos: the same, with a BOS put in front (Llama 3). metaspace:
    SentencePiece-like, `▁` for spaces and before the first word, bytes for unknown characters, with a BOS (Llama 2).
    """
    specials = ["<s>", "<|endoftext|>"]
    if kind == "metaspace":
        tokenizer = Tokenizer(models.BPE(unk_token=None, byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        tokenizer.decoder = decoders.Sequence(
            [decoders.Metaspace(prepend_scheme="first"), decoders.ByteFallback(), decoders.Fuse()]
        )
        trainer = trainers.BpeTrainer(vocab_size=500 - 256, special_tokens=specials, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if kind == "metaspace":
        tokenizer = _with_bytes(tokenizer)

    byte_level = processors.ByteLevel(trim_offsets=True)
    with_bos = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    if kind == "plain":
        tokenizer.post_processor = byte_level
    elif kind == "bos":
        tokenizer.post_processor = processors.Sequence([byte_level, with_bos])
    else:
        tokenizer.post_processor = with_bos
    bos = "<|endoftext|>" if kind == "plain" else "<s>"
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with a token for every byte: not trained, not special, used for unknown characters."""
    rules = json.loads(tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    return Tokenizer.from_str(json.dumps(rules))


def build_tiny_gpt2(
    *, layers: int = 3, tokenizer: TokenizerKind = "plain", dtype: torch.dtype = torch.float32, seed: int = 0
) -> LanguageModel:
    """A random GPT-2: Conv1D, learned positions, tied head; width 32, inner width 128."""
    words = build_tokenizer(tokenizer)
    config = GPT2Config(
        vocab_size=len(words),
        n_positions=CONTEXT_LENGTH,
        n_embd=32,
        n_layer=layers,
        n_head=4,
        initializer_range=0.2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    return _language_model("tiny-gpt2", GPT2LMHeadModel, config, words, dtype, seed)


def build_tiny_llama(
    *, layers: int = 3, tokenizer: TokenizerKind = "bos", dtype: torch.dtype = torch.float32, seed: int = 0
) -> LanguageModel:
    """A random Llama: gated MLP, RMSNorm, RoPE, grouped queries, untied head; width 32, inner width 80."""
    words = build_tokenizer(tokenizer)
    config = LlamaConfig(
        vocab_size=len(words),
        max_position_embeddings=CONTEXT_LENGTH,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    return _language_model("tiny-llama", LlamaForCausalLM, config, words, dtype, seed)


def _language_model(
    name: str,
    family: type[PreTrainedModel],
    config: GPT2Config | LlamaConfig,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype,
    seed: int,
) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family(config)
    model.to(dtype=dtype)  # type: ignore[call-arg]
    model.train(False).requires_grad_(False)
    return LanguageModel(name, None, model, tokenizer, find_anatomy(model))
