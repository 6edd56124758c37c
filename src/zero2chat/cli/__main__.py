"""`python -m zero2chat.cli`, the same as `zero2chat`."""

from zero2chat.cli import main

if __name__ == "__main__":
    main()
