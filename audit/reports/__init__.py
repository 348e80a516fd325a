"""Pure renderers of a finished run."""
