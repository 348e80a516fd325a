"""Forensics over one session: what more edits cost, how many are safe, and which of them did the harm."""
