"""`python -m loopline` is the command line."""

from loopline.interfaces.cli.main import main

if __name__ == "__main__":
    main()
