"""Averages of two recordings brought onto each other, and whether that can be believed: arrays in and out."""
