"""``python -m flowprofile``."""

from flowprofile.cli import main

if __name__ == "__main__":
    main()
