"""Pure renderers of a `RunReport`: terminal, JSON, markdown."""
