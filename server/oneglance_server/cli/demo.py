"""``oneglance demo``: the main job, end to end."""

import argparse


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("demo", help="the main job, end to end")
    command.set_defaults(run=lambda options: 0)
