"""A backup of a mesh: the file, the keys, and what only the hub has. One encrypted file, and the way back."""
