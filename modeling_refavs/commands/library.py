"""`refavs library build`: photographs and recordings for `refavs synthesize --library`."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "library", help="make a library of photographs and recorded sounds for `refavs synthesize`"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser(
        "build",
        help="make one from Debian packages",
        description="Fetch Debian packages (apt-get download), unpack them without installing, and "
        "write cut-outs, sounds and backgrounds into a folder, with the source and licence of each "
        "in library.json and a sheet to look at for each super-category.",
    )
    build.add_argument("output", metavar="DIR", help="a new folder")
    build.add_argument("--packages", metavar="FOLDER", help="use the .deb files in this folder")
    build.set_defaults(run=_run_build)


def _run_build(args: argparse.Namespace) -> None:
    from dataset_script.synthetic.library_build import build_library

    counts = build_library(args.output, args.packages)
    print(f"{args.output}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
