"""The mathematics of registration: arrays in, arrays out."""
