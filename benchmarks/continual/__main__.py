"""Continual learning, measured.

python -m benchmarks.continual images --help
python -m benchmarks.continual fisher --help
"""

from __future__ import annotations

import argparse

from benchmarks.continual import compare, fisher_speed


def main() -> None:
    """Run one of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, part in (("images", compare), ("fisher", fisher_speed)):
        one = parts.add_parser(name, description=part.__doc__, formatter_class=argparse.RawTextHelpFormatter)
        part.add_flags(one)
        one.set_defaults(run=part.run)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
