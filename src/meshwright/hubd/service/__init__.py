"""The service that stays on the hub: one loop, and its jobs."""
