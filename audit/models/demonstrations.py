"""Demonstrations in front of every prompt, which state the new facts without changing the model.

    demonstrations = Demonstrations(facts, style="published", count=16, repeats=1, length=1024, answer_room=256)
    with ModulePatch((demonstrations,)).applied(lm):
        lm.full_prompt("The mother tongue of Danielle Darrieux is")  # "New Fact: ... Prompt: The mother tongue of ..."

This is the memory of IKE (Zheng et al. 2023, arXiv 2305.12740). Demonstrations precede every prompt, including prompts
unrelated to an edit, so that an audit measures their side effects.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.scripts import gap, words_of
from audit.models.tokens import Tokenizer, encode

SLOT = "demonstrations"
STYLES = ("published", "plain")


@dataclass(frozen=True)
class NewFact:
    """A filled prompt and its new answer."""

    prompt: str
    answer: str

    @property
    def sentence(self) -> str:
        """The fact as a sentence without its full stop."""
        return self.prompt + gap(self.prompt, self.answer) + self.answer


@dataclass(eq=False)
class Demonstrations:
    """New facts, of which the `count` most similar to a prompt are put in front of it.

    `facts` are in the order of their edits. Style "published" shows each fact with a sentence that it affects or leaves
    alone, as in IKE. Style "plain" lists the facts as sentences, the most similar one `repeats` times. `length` is the
    context length of the model in tokens (None: unlimited); `answer_room` tokens of it are kept free for the answer.
    """

    kind: ClassVar[str] = "demonstrations"

    facts: tuple[NewFact, ...]
    style: str
    count: int
    repeats: int
    length: int | None
    answer_room: int
    _tokenizer: Tokenizer = field(default=None, init=False, repr=False)

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> "Demonstrations":
        """Rebuild demonstrations from their saved `settings`; there are no tensors."""
        facts = tuple(NewFact(fact["question"], fact["answer"]) for fact in settings["facts"])
        return cls(**{**settings, "facts": facts})

    @property
    def slot(self) -> str:
        """The attachment slot: one list of demonstrations per model."""
        return SLOT

    def tensors(self) -> dict[str, Tensor]:
        """An empty mapping: demonstrations have no tensors."""
        return {}

    def settings(self) -> dict[str, Any]:
        """All fields as JSON values, for saving."""
        return {
            "facts": [
                {"question": fact.prompt, "answer": fact.answer} for fact in self.facts
            ],  # the keys of stored patches
            "style": self.style,
            "count": self.count,
            "repeats": self.repeats,
            "length": self.length,
            "answer_room": self.answer_room,
        }

    def put_on(self, lm: LanguageModel) -> Callable[[], None]:
        """Keep the tokenizer of `lm`, to count tokens; no hooks are needed."""
        self._tokenizer = lm.tokenizer
        return lambda: None

    def full_prompt(self, prompt: str) -> str:
        """`prompt` after as many demonstrations as fit into the context; the least similar are dropped first.

        A prompt that leaves no room for a demonstration is returned unchanged.

        Raises:
            AuditError: the demonstrations are not attached to a model, so their tokens cannot be counted.
        """
        if self._tokenizer is None:
            raise AuditError(
                "demonstrations need a model's tokenizer to count tokens; apply their patch to a model first."
            )
        ranked = self.ranked(prompt)[: self.count]
        shown = [text for _ in range(self.repeats - 1) for text in ranked[:1]] if self.style == "plain" else []
        # Sorted by similarity, with the repetitions of the first fact in front: these are dropped last.
        for end in range(len(shown) + len(ranked), 0, -1):
            text = self._with_demonstrations([*shown, *ranked][:end], prompt)
            if self.length is None or len(encode(self._tokenizer, text)) + self.answer_room <= self.length:
                return text
        return prompt

    def ranked(self, prompt: str) -> list[NewFact]:
        """The facts by the TF-IDF cosine similarity of their prompts with `prompt`; of equal ones the latest first.

        Of several edits of the same prompt only the latest is used. IKE ranks with a sentence encoder; comparing words
        needs no second model.
        """
        wanted = self._vector(prompt)
        scores = {
            fact: sum(weight * vector.get(word, 0.0) for word, weight in wanted.items())
            for fact, vector in self._vectors.items()
        }
        return sorted(reversed(scores), key=lambda fact: -scores[fact])

    def _with_demonstrations(self, facts: list[NewFact], prompt: str) -> str:
        """The prompt after `facts`, with the most similar fact (the first) nearest to it."""
        if self.style == "plain":
            return "".join(f"{fact.sentence}.\n" for fact in reversed(facts)) + prompt
        lines = [self._demonstration(number, facts) for number in range(len(facts) - 1, 0, -1)]
        return "".join(f"{line}\n\n" for line in lines) + f"New Fact: {facts[0].sentence}\nPrompt: {prompt}"

    def _demonstration(self, number: int, facts: list[NewFact]) -> str:
        """A copy, an update or a retain demonstration in turn: the fact, the fact after another one, or another fact.

        IKE uses paraphrases for updates and neighborhood prompts for retained facts. An audit asks these prompts, so
        other facts are used instead.
        """
        fact, other = facts[number], facts[(number + 1) % len(facts)]
        prompts = (fact.sentence, f"{other.sentence}. {fact.sentence}", other.sentence)
        return f"New Fact: {fact.sentence}\nPrompt: {prompts[number % len(prompts)]}"

    @cached_property
    def _latest(self) -> tuple[NewFact, ...]:
        """The latest fact of each prompt, in the order of their edits."""
        latest: dict[str, NewFact] = {}
        for fact in self.facts:
            latest.pop(fact.prompt, None)  # a prompt that is edited again comes last
            latest[fact.prompt] = fact
        return tuple(latest.values())

    @cached_property
    def _weights(self) -> dict[str, float]:
        """The inverse document frequency log((1 + n) / (1 + df)) + 1 of each word in the facts' prompts."""
        held = Counter(word for fact in self._latest for word in set(words_of(fact.prompt.lower())))
        return {word: math.log((1 + len(self._latest)) / (1 + documents)) + 1 for word, documents in held.items()}

    @cached_property
    def _vectors(self) -> dict[NewFact, dict[str, float]]:
        return {fact: self._vector(fact.prompt) for fact in self._latest}

    def _vector(self, text: str) -> dict[str, float]:
        """The TF-IDF vector of `text` with norm one; words that occur in no fact have weight zero."""
        raw = {
            word: n * self._weights[word]
            for word, n in Counter(words_of(text.lower())).items()
            if word in self._weights
        }
        norm = math.sqrt(sum(value**2 for value in raw.values()))
        return {word: value / norm for word, value in raw.items()}
