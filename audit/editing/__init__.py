"""From an edit plan to patches."""
