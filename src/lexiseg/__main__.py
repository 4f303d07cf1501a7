"""``python -m lexiseg``, for launchers that start a module."""

from lexiseg.apps.cli import main

if __name__ == "__main__":
    main()
