"""`python -m audit.cli`, for launchers that start modules."""

from audit.cli import main

main()
