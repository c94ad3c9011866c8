"""`python -m dheads_cli` is `dheads`."""

from dheads_cli.cli import main

if __name__ == "__main__":
    main()
