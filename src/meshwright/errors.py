"""Every error that a user can meet, and the exit code it ends with.

    MeshwrightError            1   something the user can mend
    ├── SpecError              1   the mesh file: holds every Problem, not only the first
    ├── HostError              1   a host could not be reached, or a command on it failed
    ├── ClusterError           1   the cluster could not be asked, or refused
    ├── ConflictError          1   somebody else holds what we were about to write, or the world moved since the plan
    ├── GuardError             1   the plan destroys more than a plan usually does
    ├── SecretsError           1   a secret is missing, readable by others, or tracked by git
    ├── LabError               1   this machine cannot hold a lab, or the lab is not up
    ├── PartlyApplied          3   some changes were written, some were not
    └── VerifyFailed           4   the mesh is not what the file says

Anything else is a bug of ours: exit code 70 and a traceback.
Every error carries a hint: the next step, in one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class MeshwrightError(Exception):
    """An error with a next step. `message` says what and where, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in the mesh file. Lines and columns count from 1; 0 where there is no place (an unreadable file)."""

    file: str
    line: int
    column: int
    path: str
    text: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    source: str = ""

    def render(self) -> str:
        """`file:line:column path: text`, then the line with a caret, then the hint."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f" {self.path}:" if self.path else ""
        out = [f"{place}{subject} {'warning: ' if self.severity == 'warning' else ''}{self.text}"]
        if self.source and self.line:
            out += [f"    {self.source}", f"    {' ' * (self.column - 1)}^"]
        if self.hint:
            out.append(f"    hint: {self.hint}")
        return "\n".join(out)


class SpecError(MeshwrightError):
    """The mesh file cannot be used. `problems` holds all of them, sorted by position."""

    def __init__(self, problems: tuple[Problem, ...], hint: str = "") -> None:
        super().__init__("\n".join(p.render() for p in problems), hint)
        self.problems = problems


class HostError(MeshwrightError):
    pass


class ClusterError(MeshwrightError):
    """What the API server answered, or why it could not be asked.

    status: the HTTP status, 0 when there was no answer. reason: the Status object's `reason`, e.g. NotFound, Forbidden,
    AlreadyExists, Conflict, Invalid, Expired; "" when there was none. causes: (field, what is wrong there); where
    server-side apply meets another manager: (field, that manager).
    """

    def __init__(
        self, message: str, hint: str = "", status: int = 0, reason: str = "", causes: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.reason = reason
        self.causes = causes


class ConflictError(MeshwrightError):
    pass


class GuardError(MeshwrightError):
    pass


class SecretsError(MeshwrightError):
    pass


class LabError(MeshwrightError):
    pass


class PartlyApplied(MeshwrightError):
    exit_code = 3


class VerifyFailed(MeshwrightError):
    exit_code = 4
