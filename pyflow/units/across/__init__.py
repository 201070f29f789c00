"""Across sessions: every unit's data in all sessions at once, with AllenSDK's names."""
