"""One module per format that videos are read from."""
