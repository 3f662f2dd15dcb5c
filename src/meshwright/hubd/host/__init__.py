"""The machine itself: its programs, files and locks, its services, and where things of a mesh stand on it."""
