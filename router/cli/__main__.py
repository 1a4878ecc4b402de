"""``python -m router.cli``."""

from router.cli import main

if __name__ == "__main__":
    main()
