"""The file format: what mesh.yaml may say, where each word of it stands, and what its words mean together."""
