"""Edit requests, the formats of their files, and the edit plan."""
