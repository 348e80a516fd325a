"""Edit requests: one fact to change, and probes for the success and the locality of the edit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """A complete prompt and the answer that the *edited* model should give; each of the `aliases` is right as well."""

    prompt: str
    answer: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class EditRequest:
    """One fact to change.

    `prompt` contains exactly one `{}`, the place of `subject`. Targets have no leading space;
    `audit.models.tokens.join` adds it. `paraphrases` are complete prompts that must also give `target_new`,
    `neighborhood` probes must keep their answers, and `portability` probes follow from the new fact by one more hop.
    """

    case_id: str
    subject: str
    prompt: str
    target_new: str
    target_true: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighborhood: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()

    @property
    def filled_prompt(self) -> str:
        """The prompt with the subject in place of `{}` (not by `format`: the subject may contain braces)."""
        before, after = self.prompt.split("{}", 1)
        return before + self.subject + after
