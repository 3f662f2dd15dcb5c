"""One file per system: reads what is there and ours, and writes changes. Sees Resources, never the mesh file."""
