"""``sign``: parse, call one function, print."""

import argparse
from pathlib import Path


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``sign``."""
    signer = commands.add_parser(
        "sign",
        help="sign a model folder, for servers that load signed models only",
        description="Sign a model folder: its manifest, which has the graph's SHA-256. Whatever writes the folder\n"
        "anew takes the signature away. A server with --signed-by PUBLIC.pem loads no other models than those that\n"
        "are so signed, and those it comes with. Keys, Ed25519: openssl genpkey -algorithm ed25519 -out key.pem;\n"
        "openssl pkey -in key.pem -pubout -out public.pem",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    signer.add_argument("--model", required=True, type=Path, metavar="MODEL_DIR", help="what is signed")
    signer.add_argument("--key", required=True, type=Path, metavar="FILE", help="the private key, PEM")
    signer.set_defaults(run_command=_sign)


def _sign(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.signatures import sign_model_folder

    sign_model_folder(options.model, options.key)
    print(f"{options.model}: signed")
