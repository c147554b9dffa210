"""What the command `sample` draws from a trained VAE."""
