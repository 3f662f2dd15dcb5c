"""What should be: one pure module per system, Mesh and facts in, Resources out. Reads no file, no clock, no network."""
