"""Fixtures that every room may use. Nothing heavy is imported before a test asks for it."""

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):  # the job that runs the tests is none of them
    os.environ.pop(_name, None)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A loaded machine must not fail a law: no deadline, no complaint about slow generation.
settings.register_profile("audit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("audit")

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit.models.language_model import LanguageModel

REAL_MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="session")
def smollm2() -> "LanguageModel":
    """SmolLM2 135M Instruct, 4-bit quantized, in float32; the test is skipped where it was not fetched."""
    from audit.models.loading import load_language_model

    folder = REAL_MODELS / "SmolLM2-135M-Instruct-Q4"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("run `make real-models`")
    return load_language_model(str(folder), device="cpu")


@pytest.fixture(scope="session")
def tiny_gpt2() -> "LanguageModel":
    """A random GPT-2 with a byte-level tokenizer that adds nothing; tests leave its weights as they were."""
    from tests.tiny_models import build_tiny_gpt2

    return build_tiny_gpt2()


@pytest.fixture(scope="session")
def tiny_llama() -> "LanguageModel":
    """A random Llama with a byte-level tokenizer that adds a BOS; tests leave its weights as they were."""
    from tests.tiny_models import build_tiny_llama

    return build_tiny_llama()


@pytest.fixture(scope="session")
def families() -> "Callable[[str], LanguageModel]":
    """Build a family's tiny model by its name in `tests.editors.tiny_families.FAMILIES`, each once for all tests."""
    from tests.editors.tiny_families import build_family

    return cache(build_family)
