"""Where the rows of the abilities come from: the pocket world, the hub, or a folder."""
