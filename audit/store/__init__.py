"""Content-addressed storage, and logs of answers."""
