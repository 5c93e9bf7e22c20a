"""Photos of several people: nobody is in one photo twice.

Each face asks for one subject only, its nearest: nobody is named by elimination, because another face has the subject
that looks more like it. So the faces that ask for the same subject settle it among themselves, and to give it to the
one with the lowest score is both greedy and optimal: of all assignments that name as many faces, it has the least sum
of scores. The option only takes names away, so it lets no more strangers in.
"""

from collections.abc import Sequence
from dataclasses import replace

from oneglance_server.service.content import Identification


def each_in_one_face(answers: Sequence[Identification]) -> list[Identification]:
    """``answers`` with each subject in one face of a photo at most: the one with the lowest score, the first of equals.

    The others tell which answer has it (``taken_by``).
    """
    holders: dict[tuple[int, str], int] = {}
    for at, answer in enumerate(answers):
        if answer.identified is not None:
            holder = holders.setdefault((answer.probe, answer.identified), at)
            if answer.nearest[0].score < answers[holder].nearest[0].score:
                holders[answer.probe, answer.identified] = at
    result = []
    for at, answer in enumerate(answers):
        holder = at if answer.identified is None else holders[answer.probe, answer.identified]
        result.append(answer if holder == at else replace(answer, identified=None, taken_by=holder))
    return result
