"""The table of the mesh: rights, their form in nft, what a change of them ends, and the rule that keeps it closed."""
