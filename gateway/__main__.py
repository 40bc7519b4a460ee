"""`python -m gateway`, the same as `muster`."""

from gateway.cli.main import main

if __name__ == "__main__":
    main()
