"""meshwright: one mesh file, one loop (check, plan, apply, verify) over everything that lets friends into a homelab."""

__version__ = "0.1.0"
