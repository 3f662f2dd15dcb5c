"""What runs on the hub: the standard library only, Python 3.9 and newer. The only home of the wg and nft codecs.

It arrives as source on stdin and is loaded from memory (boot.py), so relative imports are all it may use. The same
modules as one file are the program that stays on the hub (__main__.py).
"""

# raised whenever an older meshwright could not deal with the program, its arguments or its files any more
FORMAT = 1
