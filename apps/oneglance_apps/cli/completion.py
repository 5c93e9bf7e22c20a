"""``oneglance completion``: what a shell reads to complete commands and options."""

import argparse

PROGRAMS = ["oneglance", "oneglance-exporter"]
DESCRIPTION = """\
Print what a shell reads to complete the commands and options of oneglance and
oneglance-exporter.

  bash: eval "$(oneglance completion bash)"             in ~/.bashrc
  zsh:  eval "$(oneglance completion zsh)"              in ~/.zshrc, after compinit
  fish: oneglance completion fish > ~/.config/fish/completions/oneglance.fish
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "completion",
        help="complete commands and options in bash, zsh or fish",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(PROGRAMS, shell=options.shell))
    return 0
