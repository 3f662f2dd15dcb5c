"""One file per system: reads what is there, only what is ours, and writes changes. Sees Resources, never the mesh file."""
