"""One module per format that videos are written in."""
