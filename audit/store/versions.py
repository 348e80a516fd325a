"""Which versions of what decided a number."""

import importlib.metadata

PACKAGE = "model-edit-audit"
PACKAGES = ("torch", "transformers", "numpy", "scipy", "rouge-score", PACKAGE)


def versions() -> dict[str, str]:
    """The versions of the packages that decide numbers; a clone that was not installed has none of its own."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
