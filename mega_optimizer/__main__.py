"""The entry point. ``--version`` and a hook without a hit answer before anything heavy loads."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from mega_optimizer import __version__

        print(f"mega-optimize {__version__}")
        return
    if sys.argv[1:2] == ["hook"]:
        from mega_optimizer.cli.prefilter import nothing_to_look_at

        if nothing_to_look_at(sys.argv[2:]):
            return
    from mega_optimizer.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
