"""Code that all model families share."""
