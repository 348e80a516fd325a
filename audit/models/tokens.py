"""Tokenization of prompts and targets, shared by every editor and every evaluation.

    joined = join(tokenizer, "The mother tongue of Danielle is", "French")
    joined.ids[joined.prompt_length:]  # the tokens of the target after that prompt

Prompt and target are tokenized together and split by character offsets. Separate tokenization can give other tokens: a
second BOS in the middle, a lone space token, a lost leading space.
"""

from dataclasses import dataclass
from typing import Any

from audit.errors import AuditError
from audit.models.scripts import gap

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, whose call signature is not typed


@dataclass(frozen=True)
class JoinedTokens:
    """Token ids of prompt and target in one sequence; the first `prompt_length` ids (BOS included) are the prompt."""

    ids: tuple[int, ...]
    prompt_length: int

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The ids of the prompt, with BOS."""
        return self.ids[: self.prompt_length]

    @property
    def target_ids(self) -> tuple[int, ...]:
        """The ids of the target."""
        return self.ids[self.prompt_length :]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of `text` with the tokenizer's leading special tokens, once.

    If the text itself starts with a BOS, no second one is added. Nothing is appended: a trailing EOS would mark the
    text as complete. Works with tokenizers without character offsets.
    """
    encoding = tokenizer(text, add_special_tokens=True, return_special_tokens_mask=True)
    ids: list[int] = encoding["input_ids"]
    return ids[_kept(tokenizer, ids, encoding["special_tokens_mask"])]


def join(tokenizer: Tokenizer, prompt: str, target: str) -> JoinedTokens:
    """Tokenize `prompt` and `target` together, with one space between them, and find where the target starts.

    Spaces at the end of the prompt and at the start of the target are ignored. No space is inserted after an empty
    prompt, other white space (a line break) or a special token (as at the end of a chat template), nor in a script
    without spaces between words (`scripts.gap`). A token that spans the boundary belongs to the target.

    Raises:
        AuditError: the target is empty or gives no tokens, or the tokenizer has no character offsets.
    """
    target = target.lstrip(" ")
    if not target:
        raise AuditError(f"the target after the prompt {prompt!r} is empty; give it at least one visible character.")
    prompt = prompt.rstrip(" ")
    needs_no_space = not prompt or prompt[-1].isspace() or prompt.endswith(tuple(tokenizer.all_special_tokens))
    text = prompt + ("" if needs_no_space else gap(prompt, target)) + target
    ids, spans = _encode_with_spans(tokenizer, text)
    prompt_length = next((index for index, (_, end) in enumerate(spans) if end > len(prompt)), len(ids))
    if prompt_length == len(ids):
        raise AuditError(
            f"the target {target!r} has no tokens after the prompt {prompt!r}; "
            "write it with characters that the tokenizer can encode."
        )
    return JoinedTokens(tuple(ids), prompt_length)


def join_verbatim(tokenizer: Tokenizer, prompt: str, target: str) -> JoinedTokens:
    """Tokenize `prompt + target` as it is, and divide the tokens as lm-evaluation-harness does.

    White space at the end of the prompt belongs to the target. The target has the tokens beyond as many as the prompt
    has alone. An empty prompt is the beginning-of-text token or, without one, the end-of-text token.
    https://github.com/EleutherAI/lm-evaluation-harness, lm_eval/api/model.py, TemplateLM.loglikelihood.

    Raises:
        AuditError: the target has no tokens of its own.
    """
    before = prompt.rstrip()
    if before:
        ids = encode(tokenizer, prompt + target)
        length = len(encode(tokenizer, before))
    else:
        ids, length = tokenizer(prompt + target, add_special_tokens=False)["input_ids"], 1
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        ids = ids if ids[:1] == [first] else [first, *ids]
    if length >= len(ids):
        raise AuditError(
            f"the continuation {target!r} has no tokens of its own after the prompt {prompt[-60:]!r}; "
            "drop the document."
        )
    return JoinedTokens(tuple(ids), length)


def target_ids(tokenizer: Tokenizer, prompt: str, target: str) -> tuple[int, ...]:
    """The tokens of `target` after `prompt`; see `join`."""
    return join(tokenizer, prompt, target).target_ids


def subject_last(tokenizer: Tokenizer, prompt: str, subject: str, prefix: str = "") -> int:
    """The index of the subject's last token in `encode(tokenizer, prefix + filled prompt)`; see `subject_span`."""
    return subject_span(tokenizer, prompt, subject, prefix)[1]


def subject_span(tokenizer: Tokenizer, prompt: str, subject: str, prefix: str = "") -> tuple[int, int]:
    """The indices of the subject's first and last token in `encode(tokenizer, prefix + filled prompt)`.

    `prompt` has one `{}` for the subject; `prefix` is put in front unchanged, braces included. A token that also covers
    the space or the letters before the subject counts as its first token. A token that also covers punctuation after
    the subject counts as its last one: in GPT-2's vocabulary, "!?" is one token.

    Raises:
        AuditError: the prompt does not have exactly one `{}`, the subject is empty, its last token also covers letters
            or digits after it, or the tokenizer has no character offsets.
    """
    return _subject_tokens(tokenizer, prompt, subject, prefix)[:2]


def text_after_subject(tokenizer: Tokenizer, prompt: str, subject: str) -> str:
    """The text after the subject that its last token covers too; usually empty. Raises like `subject_span`."""
    return _subject_tokens(tokenizer, prompt, subject)[2]


def _subject_tokens(tokenizer: Tokenizer, prompt: str, subject: str, prefix: str = "") -> tuple[int, int, str]:
    """The indices of the subject's first and last token, and the text after it that the last token covers too."""
    if prompt.count("{}") != 1:
        raise AuditError(
            f"the prompt {prompt!r} has {prompt.count('{}')} placeholders for the subject; write exactly one {{}}."
        )
    if not subject.strip():
        raise AuditError(f"the subject of the prompt {prompt!r} is empty; give the entity that the fact is about.")
    before, after = prompt.split("{}")
    text = prefix + before + subject + after
    subject_start = len(prefix) + len(before) + len(subject) - len(subject.lstrip())
    subject_end = len(prefix) + len(before) + len(subject.rstrip())
    ids, spans = _encode_with_spans(tokenizer, text)
    # A multi-byte character may be split into several tokens with the same span; the last one completes it.
    holders = [index for index, (start, end) in enumerate(spans) if start < subject_end <= end]
    beyond = text[subject_end : spans[holders[-1]][1]] if holders else ""
    if not holders or any(mark.isalnum() for mark in beyond):
        tokens = tokenizer.convert_ids_to_tokens(ids)
        raise AuditError(
            f"the last token of the subject {subject!r} cannot be found in the prompt {text!r}, because no token of "
            f"{tokens} ends where the subject ends; put a space or another word after the subject."
        )
    first = next(index for index, (_, end) in enumerate(spans) if end > subject_start)
    return first, holders[-1], beyond


def _encode_with_spans(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """`encode(text)`, and for each token its character span [start, end) in `text` (empty for special tokens)."""
    if not tokenizer.is_fast:
        raise AuditError(
            f"the tokenizer {type(tokenizer).__name__} has no character offsets; "
            "load a fast tokenizer (one with a tokenizer.json) for this model."
        )
    encoding = tokenizer(text, add_special_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids: list[int] = encoding["input_ids"]
    spans: list[tuple[int, int]] = encoding["offset_mapping"]
    kept = _kept(tokenizer, ids, encoding["special_tokens_mask"])
    return ids[kept], spans[kept]


def _kept(tokenizer: Tokenizer, ids: list[int], special: list[int]) -> slice:
    """The slice without a BOS added before one that the text contains, and without tokens appended after the text."""
    bos = tokenizer.bos_token_id
    if all(special):  # empty text: only the BOS position separates leading from trailing special tokens
        return slice(0, int(bos is not None and ids[:1] == [bos]))
    start = int(bos is not None and ids[:2] == [bos, bos])
    end = len(ids)
    while special[end - 1]:
        end -= 1
    return slice(start, end)
