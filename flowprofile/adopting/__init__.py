"""Caches of activations that other programs collected, read into a profile."""
