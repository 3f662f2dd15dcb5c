"""What the kernel and WireGuard are asked and told: netlink, the device, counters, running flows; wg's formats."""
