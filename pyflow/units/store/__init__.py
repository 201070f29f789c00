"""The store: one file with sessions, units, link sets and every decision, and what may be asked of it."""
