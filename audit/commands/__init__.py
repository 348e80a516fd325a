"""The longer commands of `audit`, one a file; torch is imported when one of them runs."""
