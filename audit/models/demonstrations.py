"""Demonstrations before every prompt: the model is told the new facts instead of being changed.

    told = Demonstrations(facts, style="published", count=16, repeats=1, length=1024, answer_room=256)
    with ModulePatch((told,)).applied(lm):
        lm.asked("The mother tongue of Danielle Darrieux is")  # "New Fact: ... Prompt: The mother tongue of ..."

This is the memory of IKE (Zheng et al. 2023, arXiv 2305.12740). Every prompt is asked so, also those that have nothing
to do with an edit: what that costs is what an audit is to find out.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import Tokenizer, encode

SLOT = "demonstrations"
STYLES = ("published", "plain")


@dataclass(frozen=True)
class NewFact:
    """A filled prompt and its new answer."""

    question: str
    answer: str

    @property
    def sentence(self) -> str:
        return f"{self.question} {self.answer}"


@dataclass(eq=False)
class Demonstrations:
    """`facts` in the order of their edits; at most `count` of them, the most similar to a prompt, stand before it.

    Styles: "published" shows each fact with a prompt that it answers (or does not), as IKE does; "plain" puts the
    facts' sentences before the prompt and says the most similar one `repeats` times. `length` is the model's context in
    tokens (None: no limit), of which `answer_room` are left for the answer.
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
        """The demonstrations that have these `settings`; there are no tensors."""
        facts = tuple(NewFact(**fact) for fact in settings["facts"])
        return cls(**{**settings, "facts": facts})

    @property
    def slot(self) -> str:
        return SLOT

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {
            "facts": [asdict(fact) for fact in self.facts],
            "style": self.style,
            "count": self.count,
            "repeats": self.repeats,
            "length": self.length,
            "answer_room": self.answer_room,
        }

    def put_on(self, lm: LanguageModel) -> Callable[[], None]:
        self._tokenizer = lm.tokenizer
        return lambda: None

    def asked(self, prompt: str) -> str:
        """`prompt` after as many demonstrations as there is room for; the least similar are dropped first.

        A prompt that fills the context by itself is asked as it is.

        Raises:
            AuditError: the demonstrations are on no model, so their tokens cannot be counted.
        """
        if self._tokenizer is None:
            raise AuditError("demonstrations are counted in a model's tokens; apply their patch to a model first.")
        ranked = self.ranked(prompt)[: self.count]
        shown = [text for _ in range(self.repeats - 1) for text in ranked[:1]] if self.style == "plain" else []
        # Most similar first; repetitions of the first fact are dropped last.
        for end in range(len(shown) + len(ranked), 0, -1):
            text = self._told([*shown, *ranked][:end], prompt)
            if self.length is None or len(encode(self._tokenizer, text)) + self.answer_room <= self.length:
                return text
        return prompt

    def ranked(self, prompt: str) -> list[NewFact]:
        """The facts by the cosine of their questions' TF-IDF vectors with the prompt's; of equals the latest first.

        Of edits of one question the latest alone is told. IKE takes a sentence encoder; words need no second model.
        """
        wanted = self._vector(prompt)
        scores = {
            fact: sum(weight * vector.get(word, 0.0) for word, weight in wanted.items())
            for fact, vector in self._vectors.items()
        }
        return sorted(reversed(scores), key=lambda fact: -scores[fact])

    def _told(self, facts: list[NewFact], prompt: str) -> str:
        """The prompt after `facts`, the most similar (the first) nearest to it."""
        if self.style == "plain":
            return "".join(f"{fact.sentence}.\n" for fact in reversed(facts)) + prompt
        lines = [self._demonstration(number, facts) for number in range(len(facts) - 1, 0, -1)]
        return "".join(f"{line}\n\n" for line in lines) + f"New Fact: {facts[0].sentence}\nPrompt: {prompt}"

    def _demonstration(self, number: int, facts: list[NewFact]) -> str:
        """Copy, update or retain, in turn: the fact asked in its own words, after other words, or not asked at all.

        IKE takes paraphrases for updates and neighbors for what is retained. Those are what an audit asks, so the
        other facts stand in for them here.
        """
        fact, other = facts[number], facts[(number + 1) % len(facts)]
        prompts = (fact.sentence, f"{other.sentence}. {fact.sentence}", other.sentence)
        return f"New Fact: {fact.sentence}\nPrompt: {prompts[number % len(prompts)]}"

    @cached_property
    def _latest(self) -> tuple[NewFact, ...]:
        return tuple({fact.question: fact for fact in self.facts}.values())

    @cached_property
    def _weights(self) -> dict[str, float]:
        """log((1 + n) / (1 + document frequency)) + 1 of each word of the facts' questions."""
        held = Counter(word for fact in self._latest for word in set(_words(fact.question)))
        return {word: math.log((1 + len(self._latest)) / (1 + documents)) + 1 for word, documents in held.items()}

    @cached_property
    def _vectors(self) -> dict[NewFact, dict[str, float]]:
        return {fact: self._vector(fact.question) for fact in self._latest}

    def _vector(self, text: str) -> dict[str, float]:
        """Word counts times their weights, of length one; words that no fact holds weigh nothing."""
        raw = {word: n * self._weights[word] for word, n in Counter(_words(text)).items() if word in self._weights}
        norm = math.sqrt(sum(value**2 for value in raw.values()))
        return {word: value / norm for word, value in raw.items()}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
