"""The pocket world, its tasks, its shipped models, and how they are trained."""

from pathlib import Path

POCKET_WEIGHTS = Path(__file__).parent / "weights"  # a folder for each pocket model
POCKET_PREFIX = "pocket-"


def pocket_names() -> tuple[str, ...]:
    """The names of the pocket models installed with this package."""
    return tuple(sorted(path.parent.name for path in POCKET_WEIGHTS.glob(f"{POCKET_PREFIX}*/config.json")))
