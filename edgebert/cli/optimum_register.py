"""`optimum-cli edgebert ...` is `edgebert ...`.

The wheel installs this file as optimum/commands/register/register_edgebert.py, where `optimum-cli` looks for commands.
"""

from __future__ import annotations

import argparse
import sys

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo


class EdgebertCommand(BaseOptimumCLICommand):
    """Hands every argument to edgebert's own command line."""

    COMMAND = CommandInfo(name="edgebert", help="Compress a fine-tuned encoder for CPUs: edgebert's commands.")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Takes whatever follows the command's name."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="For example: compress recipe.yaml")

    def run(self) -> None:
        """Runs the command; exits with its code."""
        from edgebert.cli.main import main

        sys.argv = ["edgebert", *self.args.arguments]
        main()


REGISTER_COMMANDS = [EdgebertCommand]
