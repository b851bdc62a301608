"""`python -m tutelage.cli` is `tutelage`."""

from tutelage.cli.main import run

if __name__ == "__main__":
    run()
