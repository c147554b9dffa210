"""The training loop, its hooks, and recovery from failure."""
