"""What ssh(1) and sudo(8) say when they cannot go on, in one sentence with a next step. Pure.

ssh ends with 255 for every failure of its own, so its words are all that tells them apart. Where the words are not
known they are passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

SSH_FAILED = 255

Kind = Literal["unreachable", "refused", "key", "login", "lost", "unknown"]


@dataclass(frozen=True, slots=True)
class Failure:
    """kind: unreachable, refused, key (of the host), login: nothing was sent yet. lost, unknown: it may have been."""

    kind: Kind
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Case:
    words: re.Pattern[str]
    kind: Kind
    why: str
    hint: str


def _case(words: str, kind: Kind, why: str, hint: str) -> _Case:
    return _Case(re.compile(words, re.MULTILINE), kind, why, hint)


_BY_HAND = "run `ssh {name} true` by hand to see more"
_AT = r"connect to host (?P<at>\S+) port (?P<port>\d+): "

# the first that matches counts; {name} is the host as we call it, the other fields are the pattern's groups
_SSH = (
    _case(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED(?s:.*)Offending \S+ key in (?P<file>\S+?):(?P<line>\d+)",
        "key",
        "the host key is not the one in line {line} of {file}: another machine answers, or somebody in between",
        "if it was installed anew, compare the new key there (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then "
        "remove that line; else find out who answers before you go on",
    ),
    _case(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY",
        "key",
        "the host key is not the one that is known for it: another machine answers, or somebody in between",
        "compare the key there (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) with the one you know",
    ),
    _case(
        r"Host key verification failed|No \S+ host key is known for",
        "key",
        "its host key is not known on this machine yet",
        "log in once with `ssh {name}`, compare the fingerprint that it shows with the host's, and answer yes",
    ),
    _case(
        r"Could not resolve hostname (?P<at>\S+): ",
        "unreachable",
        "nobody knows an address for {at}",
        "correct the connection's host in the mesh file, or HostName in your ssh config",
    ),
    _case(
        r"No user exists for uid (?P<uid>\d+)",
        "refused",
        "ssh does not run for user id {uid}, which has no name on this machine",
        "give it a line in /etc/passwd (in a container: with its entrypoint), or run this as a user who has one",
    ),
    _case(
        _AT + "Connection refused",
        "unreachable",
        "{at} refuses connections to port {port}",
        "start sshd there, or correct the connection's port",
    ),
    _case(
        _AT + r"(?:Connection|Operation) timed out",
        "unreachable",
        "{at} does not answer on port {port}",
        "look whether it is up and whether a firewall drops port {port}; is a VPN needed to get there?",
    ),
    _case(
        _AT + r"(?:No route to host|Network is unreachable|Host is down)",
        "unreachable",
        "there is no way from here to {at}",
        "look whether it is up, and whether this machine is in the right network",
    ),
    _case(
        r"channel \d+: open failed: (?:connect failed: )?(?P<said>.+)|stdio forwarding failed",
        "unreachable",
        "the jump host cannot connect to it: {said}",
        "log in to the jump host and look whether it reaches the hub",
    ),
    _case(
        r"Connection timed out during banner exchange|Connection to \S+ port \d+ timed out",
        "unreachable",
        "it takes connections but sshd says nothing",
        "look at the machine's load and at its sshd",
    ),
    _case(
        r"^(?P<said>.*(?:Bad configuration option|Bad owner or permissions on|terminating, \d+ bad config).*)$",
        "refused",
        "your ssh config cannot be used: {said}",
        "mend that file",
    ),
    _case(
        r"^(?P<said>Unable to negotiate with .*|.*no matching .* found.*)$",
        "refused",
        "ssh here and sshd there have no common algorithm: {said}",
        "update the older of the two, or allow that algorithm for this host in your ssh config",
    ),
    _case(
        r"(?:(?P<user>\S+)@(?P<at>\S+): )?Permission denied \((?P<ways>[^)]*)\)",
        "login",
        "{at} does not let {user} in by {ways}",
        "look which key is offered: `ssh-add -l`, `ssh -v {name}`; a key with a passphrase needs ssh-agent, or a "
        "terminal to type it on",
    ),
    _case(
        r"Too many authentication failures",
        "login",
        "it refused the login after too many keys",
        "name the one key with IdentityFile and IdentitiesOnly in your ssh config",
    ),
    _case(
        r"UNKNOWN port 65535",
        "unreachable",
        "the jump host or ProxyCommand ended before the connection stood",
        _BY_HAND,
    ),
    _case(
        r"kex_exchange_identification|ssh_exchange_identification|\[preauth\]",
        "refused",
        "it closed the connection before the login",
        "it may refuse this address for now (fail2ban, MaxStartups): look at the log of sshd there",
    ),
    _case(
        r"closed by remote host|Connection reset by|Broken pipe|not responding|read from master failed|"
        r"^(?:packet_write_wait|client_loop): ",
        "lost",
        "the connection was lost",
        "run the command again",
    ),
)

_STALE = re.compile(r"mux_client_\w+: (?:read|write)\b.*(?:fail|Broken|EOF)|Control socket connect.*refused")
_MASTER_ASKS = re.compile(r"Host key verification failed|Permission denied \(|No \S+ host key is known for")


def ssh(name: str, err: str) -> Failure:
    """Why ssh ended with 255, after what it wrote to stderr."""
    for case in _SSH:
        if found := case.words.search(err):
            fields = {key: value for key, value in found.groupdict().items() if value}
            given = {"name": name, "at": name, "user": "you", "said": "it says no more", **fields}
            return Failure(case.kind, case.why.format(**given), case.hint.format(**given))
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    if not lines:
        return Failure("lost", "the connection was lost", "run the command again")
    return Failure("unknown", f"ssh: {lines[-1][:300]}", _BY_HAND.format(name=name))


def no_shell(name: str, code: int, said: str) -> Failure:
    """The login went well, and what was to run there was not begun. said: what came instead."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = f' and said "{lines[-1][:200]}"' if lines else ""
    why = f"no command can be run there: the login shell ended with code {code}{words}"
    hint = (
        f"see what `ssh {name} true` does; give that user a shell that takes commands (`chsh -s /bin/sh`), and let no "
        "start file of it (.bashrc) exit"
    )
    return Failure("login", why, hint)


def overdue(name: str, seconds: float) -> Failure:
    """Nothing came back in time."""
    hint = (
        f"see whether `ssh {name} true` ends: if not, a start file of the login shell there (.bashrc) waits for "
        "something; else look at that machine's load and run the command again"
    )
    return Failure("lost", f"what was run there did not end within {seconds:g} s", hint)


def stale(err: str) -> bool:
    """Whether a shared connection was dead before anything was sent over it."""
    return bool(_STALE.search(err))


def hidden(err: str) -> bool:
    """Whether the way there broke and its words were lost: ssh keeps them to itself where it shares the connection."""
    return "UNKNOWN port 65535" in err and "ended before" in ssh("", err).why


def answerable(err: str) -> bool:
    """Whether somebody at a terminal could have answered what ssh wanted to know."""
    return bool(_MASTER_ASKS.search(err)) and "IDENTIFICATION HAS CHANGED" not in err and "REVOKED" not in err


_RULE = "have its admin allow {user} to run any command: a line `{user} ALL=(ALL) ALL` in a file under /etc/sudoers.d"
_SUDO = (
    _case(
        r"password is required|terminal is required to read the password|no askpass program",
        "login",
        "sudo wants a password of {user}",
        "name where it comes from as connection.become_password (env, file or command), run this on a terminal to be "
        "asked, or allow {user} NOPASSWD in /etc/sudoers.d",
    ),
    _case(
        r"incorrect password attempt|Sorry, try again|no password was provided",
        "login",
        "sudo did not take the password of {user}",
        "correct what connection.become_password names",
    ),
    _case(
        r"not in the sudoers file|may not run sudo|not allowed to run sudo", "login", "{user} may not use sudo", _RULE
    ),
    _case(r"is not allowed to execute", "login", "sudo does not let {user} run what is needed", _RULE),
    _case(
        r"must have a tty",
        "login",
        "sudo wants a terminal (requiretty)",
        "add `Defaults:{user} !requiretty` to a file under /etc/sudoers.d there",
    ),
    _case(
        r"(?:account|password) (?:is |has )?(?:expired|locked)|account validation failure|change your password",
        "login",
        "the account of {user} is expired or locked there",
        "log in by hand and mend the account",
    ),
    _case(
        r"sudo: (?:not found|command not found|No such file)|exec: sudo|meshwright: no sudo",
        "login",
        "there is no sudo, and {user} is not root",
        "install sudo there, or log in as root (connection.user)",
    ),
    _case(r"^sudo: (?P<said>.*(?:setuid|no new privileges|owned by).*)$", "login", "sudo: {said}", "mend sudo there"),
)


def sudo(user: str, err: str) -> Failure | None:
    """Why sudo refused, None when it did not."""
    for case in _SUDO:
        if found := case.words.search(err):
            given = {"user": user, **{key: value for key, value in found.groupdict().items() if value}}
            return Failure(case.kind, case.why.format(**given), case.hint.format(**given))
    return None


def asks_password(err: str) -> bool:
    """Whether sudo would go on with a password."""
    return bool(_SUDO[0].words.search(err))


def wrong_password(err: str) -> bool:
    return bool(_SUDO[1].words.search(err))
