"""One module per family of commands. They import what they need when they run, so that listing them costs nothing."""
