"""The eight abilities, one file each."""
