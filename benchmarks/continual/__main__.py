"""Continual learning, measured.

python -m benchmarks.continual images --help
python -m benchmarks.continual text --help
python -m benchmarks.continual reuters --help
python -m benchmarks.continual fisher --help
python -m benchmarks.continual scaling --help
python -m benchmarks.continual overhead --help
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.continual import compare, fisher_speed, overhead, reuters, scaling, text
from tutelage.cli.quiet import quiet_libraries

PARTS: dict[str, Any] = {
    "images": compare,
    "text": text,
    "reuters": reuters,
    "fisher": fisher_speed,
    "scaling": scaling,
    "overhead": overhead,
}


def main() -> None:
    """Run one of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, part in PARTS.items():
        one = parts.add_parser(name, description=part.__doc__, formatter_class=argparse.RawTextHelpFormatter)
        part.add_flags(one)
        one.set_defaults(run=part.run)
    asked = parser.parse_args()
    quiet_libraries()
    asked.run(asked)


if __name__ == "__main__":
    main()
