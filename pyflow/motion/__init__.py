"""One recording: its options, its reference, and the loop that frees its frames of motion."""
