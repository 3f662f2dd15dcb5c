"""A mesh on the hub as resources: what is there, and the steps that make it what is wanted."""
