"""The pocket world, its tasks, its shipped models, and how they are trained."""

from pathlib import Path

POCKET_WEIGHTS = Path(__file__).parent / "weights"  # a folder for each pocket model
