"""From a model's output to the text that an ability parses."""
