"""What is measured beside the abilities: the edit itself, and the integrity of the edited model."""
