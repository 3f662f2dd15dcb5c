"""What has to change: the difference of two states, in order, with a digest and a guard. Knows no system by name."""
