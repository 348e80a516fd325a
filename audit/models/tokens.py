"""The one way in which text becomes tokens: for every editor and every evaluator.

    joined = join(tokenizer, "The mother tongue of Danielle is", "French")
    joined.ids[joined.prompt_length:]  # the target's tokens, as the model meets them after that prompt

Prompt and target are tokenized together and cut by character offsets. Tokenizing them apart gives other tokens: a
second BOS in the middle, a lone space mark, a lost leading space.
"""

from dataclasses import dataclass
from typing import Any

from audit.errors import AuditError

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, whose call signature is not typed


@dataclass(frozen=True)
class JoinedTokens:
    """Token ids of prompt and target in one sequence; the first `prompt_length` belong to the prompt (BOS too)."""

    ids: tuple[int, ...]
    prompt_length: int

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.ids[: self.prompt_length]

    @property
    def target_ids(self) -> tuple[int, ...]:
        return self.ids[self.prompt_length :]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of `text`, with the special tokens that the tokenizer puts in front, once.

    A BOS that the text itself spells out is not doubled, and nothing is appended: a closing EOS would tell the model
    that the text is over. Works with tokenizers that know no offsets.
    """
    encoding = tokenizer(text, add_special_tokens=True, return_special_tokens_mask=True)
    ids: list[int] = encoding["input_ids"]
    return ids[_kept(tokenizer, ids, encoding["special_tokens_mask"])]


def join(tokenizer: Tokenizer, prompt: str, target: str) -> JoinedTokens:
    """Tokenize `prompt` and `target` together, one space between them, and say where the target begins.

    Spaces at the prompt's end and the target's start do not matter. An empty prompt gets no space, and neither does one
    that ends in a line break or in a special token: there, as after a chat template, the target begins afresh. A token
    that straddles the boundary belongs to the target.

    Raises:
        AuditError: the target is empty, or the tokenizer knows no character offsets.
    """
    target = target.lstrip(" ")
    if not target:
        raise AuditError(f"the target after the prompt {prompt!r} is empty; give it at least one visible character.")
    prompt = prompt.rstrip(" ")
    begins_afresh = not prompt or prompt[-1].isspace() or prompt.endswith(tuple(tokenizer.all_special_tokens))
    text = prompt + target if begins_afresh else f"{prompt} {target}"
    ids, spans = _encode_with_spans(tokenizer, text)
    prompt_length = next((index for index, (_, end) in enumerate(spans) if end > len(prompt)), len(ids))
    if prompt_length == len(ids):
        raise AuditError(
            f"the tokenizer gives the target {target!r} no tokens after the prompt {prompt!r}; "
            "write the target with characters that the tokenizer knows."
        )
    return JoinedTokens(tuple(ids), prompt_length)


def target_ids(tokenizer: Tokenizer, prompt: str, target: str) -> tuple[int, ...]:
    """The tokens of `target` as they stand after `prompt`; see `join`."""
    return join(tokenizer, prompt, target).target_ids


def subject_last(tokenizer: Tokenizer, prompt: str, subject: str, prefix: str = "") -> int:
    """The index of the subject's last token in `encode(tokenizer, prefix + filled prompt)`; see `subject_span`."""
    return subject_span(tokenizer, prompt, subject, prefix)[1]


def subject_span(tokenizer: Tokenizer, prompt: str, subject: str, prefix: str = "") -> tuple[int, int]:
    """The indices of the subject's first and last token in `encode(tokenizer, prefix + filled prompt)`.

    `prompt` holds one `{}` where the subject goes; `prefix` is put in front as it is, whatever braces it holds. A token
    that also covers the blank or the letters before the subject is its first.

    Raises:
        AuditError: the prompt has no single `{}`, the subject is empty, no token ends where the subject ends (one
            swallows the end of the subject and what follows), or the tokenizer knows no character offsets.
    """
    if prompt.count("{}") != 1:
        raise AuditError(
            f"the prompt {prompt!r} holds {prompt.count('{}')} places for the subject; write exactly one {{}}."
        )
    if not subject.strip():
        raise AuditError(f"the subject of the prompt {prompt!r} is empty; name what the fact is about.")
    before, after = prompt.split("{}")
    text = prefix + before + subject + after
    subject_start = len(prefix) + len(before) + len(subject) - len(subject.lstrip())
    subject_end = len(prefix) + len(before) + len(subject.rstrip())
    ids, spans = _encode_with_spans(tokenizer, text)
    # A character of several bytes may be spread over several tokens with the same span: the last one completes it.
    holders = [index for index, (start, end) in enumerate(spans) if start < subject_end <= end]
    if not holders or spans[holders[-1]][1] != subject_end:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        raise AuditError(
            f"the last token of the subject {subject!r} cannot be found in the prompt {text!r}, because no token of "
            f"{tokens} ends where the subject ends; put a space or another word after the subject."
        )
    first = next(index for index, (_, end) in enumerate(spans) if end > subject_start)
    return first, holders[-1]


def _encode_with_spans(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """`encode(text)` and for each token the characters [start, end) of `text` that it covers (none: start = end)."""
    if not tokenizer.is_fast:
        raise AuditError(
            f"the tokenizer {type(tokenizer).__name__} knows no character offsets; "
            "load a fast tokenizer (one with a tokenizer.json) for this model."
        )
    encoding = tokenizer(text, add_special_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids: list[int] = encoding["input_ids"]
    spans: list[tuple[int, int]] = encoding["offset_mapping"]
    kept = _kept(tokenizer, ids, encoding["special_tokens_mask"])
    return ids[kept], spans[kept]


def _kept(tokenizer: Tokenizer, ids: list[int], special: list[int]) -> slice:
    """Leaves out a BOS put before one that the text spells out, and whatever was put after the text."""
    bos = tokenizer.bos_token_id
    if all(special):  # no text at all, so nothing else tells front from back
        return slice(0, int(bos is not None and ids[:1] == [bos]))
    start = int(bos is not None and ids[:2] == [bos, bos])
    end = len(ids)
    while special[end - 1]:
        end -= 1
    return slice(start, end)
