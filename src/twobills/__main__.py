"""``python -m twobills``."""

from twobills.cli.app import main

if __name__ == "__main__":
    main()
