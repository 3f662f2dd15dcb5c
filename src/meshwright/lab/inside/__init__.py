"""What runs inside the lab's namespaces: standard library only, relative imports only, started as `python -I -S -c`.

Small on purpose: a lab of 200 peers has about 400 of these processes, forked from one that imported next to nothing.
"""
