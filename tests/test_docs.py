"""The examples in docs/ work as described."""

import re
import sys
from pathlib import Path

import pytest
import torch

from audit.editors import load_editor
from audit.editors.stages.keys import lookup_states
from audit.engine.sequences import prompt_sequence
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.tokens import target_ids
from tests.editors.plain import REQUESTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "write-an-editor.md"


@pytest.fixture
def editor_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's example as an importable module."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    name = "documented_editor"
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_documented_editor_writes_what_the_page_says(
    editor_module: str, family: str, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    before = weights_fingerprint(lm)
    editor = load_editor(f"{editor_module}:Whisper", {"strength": "3"})
    patch = editor.edit(lm, REQUESTS[:1])
    assert weights_fingerprint(lm) == before

    layer = lm.anatomy.depth // 2
    down = lm.anatomy.down_projections[layer]
    sequence = prompt_sequence(lm, REQUESTS[0])

    def output() -> torch.Tensor:
        states = lookup_states(lm, [sequence], outputs=[down], stop=down, token_budget=64)
        return states.outputs[down][0]

    plain = output()
    with patch.applied(lm):
        change = output() - plain
    first = target_ids(lm.tokenizer, REQUESTS[0].filled_prompt, REQUESTS[0].target_new)[0]
    word = lm.model.get_parameter("lm_head.weight" if family == "tiny_llama" else "transformer.wte.weight")[first]
    torch.testing.assert_close(change, 3 * word / word.norm(), rtol=1e-4, atol=1e-4)
    assert weights_fingerprint(lm) == before


def test_the_documented_editor_refuses_an_unknown_setting(editor_module: str) -> None:
    with pytest.raises(AuditError, match="whisper has no setting loudness"):
        load_editor(f"{editor_module}:Whisper", {"loudness": "3"})


def test_the_example_is_about_thirty_lines() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 32
