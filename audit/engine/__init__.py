"""Makes a model answer fast, without letting neighbours change an answer."""
