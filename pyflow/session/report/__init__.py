"""The report: what a session or a recording came to, as one page that people look at.

It is derived from what the stages left on disk, so that it is no part of any key: making it anew changes no result.
"""
