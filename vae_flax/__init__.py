"""Variational autoencoders as pure functions (UDL chapter 17)."""
