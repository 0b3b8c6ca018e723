"""`python -m fetch`."""

from fetch.cli import main

main()
