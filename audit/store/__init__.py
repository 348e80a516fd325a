"""Content-addressed storage, logs of answers, and the package versions that results depend on."""

import importlib.metadata

PACKAGE = "model-edit-audit"
PACKAGES = ("torch", "transformers", "numpy", "scipy", "rouge-score", PACKAGE)


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on; packages that are not installed are left out."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
