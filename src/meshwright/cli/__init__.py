"""The command line: parse, call flow, show, exit code. Decides nothing."""
