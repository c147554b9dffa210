"""The folder of a run: layout, checkpoints, lock, metrics, pictures."""
