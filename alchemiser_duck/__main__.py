"""`python -m alchemiser_duck` is `alchemiser-duck`."""

from alchemiser_duck.cli import main

if __name__ == "__main__":
    main()
