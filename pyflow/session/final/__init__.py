"""What stage 3 leaves in the session's folder: masks, videos, and ``final_valid_idx``."""
