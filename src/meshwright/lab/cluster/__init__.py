"""A real Kubernetes control plane on this machine: for the tests, and at the hub's address of a lab.

programs.py finds or builds the programs, control.py starts them; nothing of it needs root, a container or an image.
"""
