"""`python -m audit.cli`, for launchers that start modules instead of scripts."""

from audit.cli import main

main()
