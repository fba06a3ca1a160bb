"""`python -m lit_ghibli` is `lit-ghibli`."""

from lit_ghibli.cli import main

main()
