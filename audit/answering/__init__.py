"""From items to paired answers of the base model and the edited models."""
