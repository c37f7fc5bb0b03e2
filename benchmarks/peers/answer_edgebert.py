"""The first answer of edgebert. Runs in an environment that has the device side of edgebert alone.

python answer_edgebert.py BUNDLE TEXT
"""

from __future__ import annotations

import sys

import edgebert

answer = edgebert.load(sys.argv[1])(sys.argv[2])

if __name__ == "__main__":
    from first_answer import tell

    tell(answer.score if answer.label == "positive" else 1 - answer.score)
