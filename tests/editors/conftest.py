"""Tiny models of every family, each built once for all the tests that ask for it."""

from collections.abc import Callable
from functools import cache

import pytest

from audit.models.language_model import LanguageModel
from tests.editors.tiny_families import build_family


@pytest.fixture(scope="session")
def families() -> Callable[[str], LanguageModel]:
    """A family's tiny model by its name in `FAMILIES`; tests leave its weights as they were."""
    return cache(build_family)
