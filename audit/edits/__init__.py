"""Edit requests, their sources and the edit plan."""
