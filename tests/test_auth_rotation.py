"""A refresh token that is good once: the next one is on the disk before anything is done with what came beside it.

The server is authlib's and uses up a token with the answer that replaces it, as strict servers do. Processes
are killed with a real SIGKILL at chosen instructions, disks are full, files damaged.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncer import RefreshToken
from syncer.errors import ConfigError, CredentialsError, StoppedError, UnavailableError
from tests.api import connector
from tests.command import CLEAN, Done, Project, ended, until
from tests.scripted import response, scripted
from tests.servers.flask_server import Serving, serving
from tests.servers.oauth_server import Authority, OneClient
from tests.test_client import GOOD, Asker, headers_of, status

FIRST, SECRET = "first-r3fresh-c4n4ry", "cl13nt-s3cret-c4n4ry"
SECRETS = {"SHOP_ID": "shop", "SHOP_SECRET": SECRET, "SHOP_REFRESH": FIRST}
AGAIN = "if the refresh token is used up, log in again and set SHOP_REFRESH to the new one"


def style(url: str, *, public: bool = False, **options: Any) -> RefreshToken:
    own = None if public else "SHOP_SECRET"
    return RefreshToken(
        token_url=f"{url}/token", client_id="SHOP_ID", client_secret=own, refresh_token="SHOP_REFRESH", **options
    )


@pytest.fixture
def authority() -> Authority:
    made = Authority([OneClient("shop", SECRET)])
    made.give(FIRST)
    return made


@pytest.fixture
def served(authority: Authority) -> Iterator[Serving]:
    with serving(authority.app) as found:
        yield found


@pytest.fixture
def project(tmp_path: Path, served: Serving) -> Project:
    made = Project(tmp_path / "project")
    made.path.mkdir()
    made.write(connector(served.url, more=f"auth={style(served.url)!r}"))
    return made


def tokens(project: Project) -> Path:
    """The directory in which this project's runs keep what they are given."""
    return Path(f"{project.path}-state") / "tokens"


def saved(project: Project) -> list[dict[str, Any]]:
    """What is saved, whole or not at all."""
    return [json.loads(path.read_text()) for path in sorted(tokens(project).glob("*.json"))]


def used(served: Serving) -> list[str]:
    """The refresh tokens that the server was shown, in order."""
    return [one.form["refresh_token"] for one in served.of("/token")]


def pull(project: Project, *options: str, **more: Any) -> Done:
    return project.run("pull", "shop", *options, **{"env": SECRETS, **more})


# --- from run to run ---


def test_a_rotated_token_is_on_the_disk_before_its_access_token_is_used(
    authority: Authority, served: Serving, project: Project
) -> None:
    seen: list[tuple[str, str]] = []

    def page(number: int) -> None:
        (found,) = saved(project)
        seen.append((found["access_token"], found["refresh_token"]))

    authority.page = page
    assert 0 == pull(project).code
    given = authority.tokens[-1]
    assert [(given.access, given.refresh)] * 3 == seen
    assert ([FIRST], [given.refresh]) == (used(served), authority.good)


def test_the_next_run_goes_on_with_the_token_that_is_still_good(
    authority: Authority, served: Serving, project: Project
) -> None:
    assert (0, 0) == (pull(project).code, pull(project).code)
    assert ([FIRST], 6) == (used(served), authority.pages)


def test_a_chain_of_runs_shows_each_refresh_token_once(authority: Authority, served: Serving, project: Project) -> None:
    for _ in range(4):
        authority.revoke()
        assert 0 == pull(project).code
    chain = [FIRST, *(token.refresh for token in authority.tokens[1:4])]
    assert chain == used(served)
    assert [authority.tokens[-1].refresh] == authority.good
    assert [authority.good[0]] == [found["refresh_token"] for found in saved(project)]


def test_a_token_that_expires_is_renewed_from_the_saved_one_in_the_next_run(
    authority: Authority, served: Serving, tmp_path: Path
) -> None:
    state = {**SECRETS, "SYNCER_STATE": str(tmp_path)}
    moments = [(0.0, 1), (3500.0, 1), (3545.0, 2), (9000.0, 3)]
    for moment, count in moments:
        asker = Asker(served.url, auth=style(served.url), environment=state)
        asker.time.seconds += moment
        authority.now = lambda: asker.time.now().timestamp()  # noqa: B023 called before the next one is made
        asker.fetch()
        assert count == len(served.of("/token"))


def test_a_clock_that_went_back_makes_no_token_last_longer_than_the_server_said(
    authority: Authority, served: Serving, tmp_path: Path
) -> None:
    state = {**SECRETS, "SYNCER_STATE": str(tmp_path)}
    ahead = Asker(served.url, auth=style(served.url), environment=state)
    ahead.time.seconds += 10**8
    authority.now = lambda: ahead.time.now().timestamp()
    ahead.fetch()
    back = Asker(served.url, auth=style(served.url), environment=state)
    back.fetch()
    assert 1 == len(served.of("/token"))
    back.time.seconds += 3550
    back.fetch()
    assert 2 == len(served.of("/token"))


def test_a_server_that_does_not_rotate_leaves_nothing_on_the_disk(
    authority: Authority, served: Serving, project: Project
) -> None:
    authority.rotates = False
    assert (0, 0) == (pull(project).code, pull(project).code)
    assert [FIRST, FIRST] == used(served)
    assert [] == [path.name for path in tokens(project).iterdir() if path.suffix != ".lock"]


def test_a_token_without_an_end_is_used_until_it_is_refused(tmp_path: Path) -> None:
    state = {**SECRETS, "SYNCER_STATE": str(tmp_path)}
    one, two = (response(json.dumps({"access_token": f"t{n}", "refresh_token": f"r{n}"}).encode()) for n in (1, 2))
    with scripted(one, GOOD, GOOD, status("401 No"), two, GOOD) as server:
        for _ in range(3):
            Asker(server.url, auth=style(server.url), environment=state).fetch()
        sent = [headers_of(server, number)["authorization"] for number in (1, 2, 3, 5)]
        assert b"refresh_token=r1" in server.requests[4]
    assert ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"] == sent


def test_a_public_client_shows_its_id_in_the_form(authority: Authority, served: Serving, tmp_path: Path) -> None:
    authority.clients[0].method = "none"
    auth = style(served.url, public=True, scope="read", extra={"resource": "x"})
    Asker(served.url, auth=auth, environment={**SECRETS, "SYNCER_STATE": str(tmp_path)}).fetch()
    form = {"client_id": "shop", "grant_type": "refresh_token", "refresh_token": FIRST}
    assert form | {"resource": "x", "scope": "read"} == served.of("/token")[0].form


def test_a_new_login_counts_and_what_the_old_one_led_to_does_not(
    authority: Authority, served: Serving, project: Project
) -> None:
    assert 0 == pull(project).code
    for token in authority.tokens:
        token.revoked = token.used = True
    refused = pull(project)
    assert (5, True) == (refused.code, AGAIN in refused.said)
    assert f"{served.url}/token answered 400 (invalid_grant)" in refused.said
    authority.give("second-r3fresh-c4n4ry")
    again = pull(project, env={**SECRETS, "SHOP_REFRESH": "second-r3fresh-c4n4ry"})
    assert (0, "second-r3fresh-c4n4ry") == (again.code, used(served)[-1])
    assert 0 == pull(project, env={**SECRETS, "SHOP_REFRESH": "second-r3fresh-c4n4ry"}).code


def test_what_is_saved_is_for_the_owner_only(authority: Authority, served: Serving, project: Project) -> None:
    tokens(project).mkdir(parents=True, mode=0o755)
    assert 0 == pull(project, preexec_fn=lambda: os.umask(0)).code
    found = {
        path.name.rpartition(".")[2] or "tokens": path.stat().st_mode & 0o777 for path in tokens(project).iterdir()
    }
    assert {"json": 0o600, "lock": 0o600} == found
    assert 0o700 == tokens(project).stat().st_mode & 0o777


# --- killed ---

KILLER = """
import os, signal, sys

armed = []


def watch(event, arguments):
    text = str(arguments[0]) if arguments else ""
    if "/tokens" not in text:
        return
    if event == "open" and text.endswith(".new") and "reserve" in WHERE:
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "os.rename" and text.endswith(".new"):
        if "answer" in WHERE:
            os.kill(os.getpid(), signal.SIGKILL)
        armed.append(text)
    elif armed and event == "open" and text.endswith("tokens") and "rename" in WHERE:
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed and event == "os.remove" and text.endswith(".new") and "saved" in WHERE:
        os.kill(os.getpid(), signal.SIGKILL)


WHERE = os.environ["WHERE"]
sys.addaudithook(watch)
from syncer.__main__ import main
main()
"""


def killed(project: Project, where: str) -> None:
    """A pull that is killed at an instruction: before its request for a token, with the answer in hand, ..."""
    environment = {**CLEAN, **SECRETS, "HOME": str(project.path), "SYNCER_STATE": f"{project.path}-state"}
    done = subprocess.run(
        [sys.executable, "-c", KILLER, "pull", "shop"],
        cwd=project.path,
        env={**environment, "WHERE": where},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert -9 == done.returncode


def test_killed_before_it_asks_a_pull_has_used_up_nothing(
    authority: Authority, served: Serving, project: Project
) -> None:
    killed(project, "reserve")
    assert ([], [FIRST]) == (used(served), authority.good)
    assert 0 == pull(project).code


@pytest.mark.parametrize("where", ["rename", "saved"])
def test_killed_between_saving_and_using_the_next_pull_goes_on_with_what_is_saved(
    authority: Authority, served: Serving, project: Project, where: str
) -> None:
    killed(project, where)
    assert ([FIRST], 0) == (used(served), authority.pages)
    done = pull(project)
    assert (0, [FIRST], 3) == (done.code, used(served), authority.pages)


def test_killed_between_the_answer_and_saving_it_the_next_pull_says_that_a_login_is_needed(
    authority: Authority, served: Serving, project: Project
) -> None:
    """What no order of steps can help: only the server and a process that is gone knew the new token."""
    killed(project, "answer")
    assert (0, 1) == (authority.pages, len(used(served)))
    done = pull(project)
    assert (5, [FIRST, FIRST], 0) == (done.code, used(served), authority.pages)
    assert (True, True) == ("(invalid_grant)" in done.said, AGAIN in done.said)
    authority.give("second")
    assert 0 == pull(project, env={**SECRETS, "SHOP_REFRESH": "second"}).code


def test_killed_again_and_again_no_refresh_token_is_shown_twice(
    authority: Authority, served: Serving, project: Project
) -> None:
    for where in ("saved", "reserve", "rename", "reserve", "saved"):
        authority.revoke()
        killed(project, where)
    authority.revoke()
    assert 0 == pull(project).code
    assert [token.refresh for token in authority.tokens if token.used] == used(served)
    assert 4 == len(set(used(served)))


# --- a process that ends while a thread of it renews ---


def test_a_pull_that_ends_while_its_token_is_renewed_ahead_waits_until_that_is_saved(
    authority: Authority, served: Serving, project: Project
) -> None:
    """The first page ends the pull; the second is being asked for by then, and its token has been refused."""
    model = "class Item(BaseModel):\n    id: str\n"
    project.write(connector(served.url, model=model, more=f"auth={style(served.url)!r}"))
    authority.page = lambda number: authority.revoke() if number == 2 else None
    authority.after = lambda: waiting.wait(1.5 if len(used(served)) == 2 else 0.0)
    waiting = threading.Event()
    done = pull(project, "--max-rejects", "0")
    waiting.set()
    assert 3 == done.code
    assert [FIRST, authority.tokens[1].refresh] == used(served)
    assert authority.good == [found["refresh_token"] for found in saved(project)]
    authority.page = lambda number: None
    project.write(connector(served.url, more=f"auth={style(served.url)!r}"))
    assert 0 == pull(project, "--restart", "--yes").code


# --- two at once ---


@contextmanager
def another(project: Project, served: Serving) -> Iterator[Project]:
    """A second project of the same user, with the same credentials and an output of its own."""
    made = Project(project.path.parent / "other")
    made.path.mkdir()
    made.write(connector(served.url, more=f"auth={style(served.url)!r}"))
    yield made


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether a process has opened the lock of the token."""
    try:
        open_files = [str(file.readlink()) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:
        return False
    return any(name.endswith(".lock") and "/tokens/" in name for name in open_files)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to see which files a process has open")
def test_of_two_processes_that_renew_at_once_one_asks_and_the_other_takes_what_it_saved(
    authority: Authority, served: Serving, project: Project
) -> None:
    started: list[subprocess.Popen[str]] = []
    state = {**SECRETS, "SYNCER_STATE": f"{project.path}-state"}
    with another(project, served) as other:

        def before() -> None:
            """The answer waits until the second process stands at the lock."""
            if len(started) == 1:
                started.append(other.start("pull", "shop", env=state))
                until(lambda: waits(started[1]))

        authority.before = before
        started.append(project.start("pull", "shop", env=state))
        done = [ended(started[0]), ended(started[1])]
    assert [0, 0] == [one.code for one in done]
    assert ([FIRST], 6) == (used(served), authority.pages)


def test_of_two_processes_whose_token_is_refused_one_asks_for_the_next(
    authority: Authority, served: Serving, project: Project
) -> None:
    """Both have it from the same file; the one that comes second finds another one there."""
    state = {**SECRETS, "SYNCER_STATE": f"{project.path}-state"}
    askers = [Asker(served.url, auth=style(served.url), environment=state) for _ in range(3)]
    for asker in askers:
        asker.fetch()
    authority.revoke()
    for asker in askers:
        asker.fetch()
    assert [FIRST, authority.tokens[1].refresh] == used(served)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Somebody else has the locks of all tokens there."""
    locks = [path.open("r+") for path in directory.glob("*.lock")]
    assert locks
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    for lock in locks:
        lock.close()


def test_a_lock_that_another_process_keeps_is_not_waited_for_for_ever(
    authority: Authority, served: Serving, tmp_path: Path
) -> None:
    state = {**SECRETS, "SYNCER_STATE": str(tmp_path)}
    asker = Asker(served.url, auth=style(served.url), environment=state)
    asker.fetch()
    authority.revoke()
    with held(tmp_path / "tokens"), pytest.raises(UnavailableError, match="renewing the token for too long"):
        asker.fetch()
    assert 3 * 90 <= asker.time.slept
    assert [FIRST] == used(served)
    asker.fetch()
    assert 2 == len(used(served))


def test_a_signal_ends_the_wait_for_the_lock(authority: Authority, served: Serving, tmp_path: Path) -> None:
    asker = Asker(served.url, auth=style(served.url), environment={**SECRETS, "SYNCER_STATE": str(tmp_path)})
    asker.fetch()
    authority.revoke()
    asker.time.stop_after = asker.time.slept + 1.0
    with held(tmp_path / "tokens"), pytest.raises(StoppedError):
        asker.fetch()
    assert [FIRST] == used(served)


# --- a place that cannot keep it ---


def small(size: int) -> Callable[[], None]:
    """What a full disk does to every write past so many bytes of a file."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_on_a_full_disk_the_token_is_not_used_up(authority: Authority, served: Serving, project: Project) -> None:
    done = pull(project, preexec_fn=small(32768))
    assert (6, [], [FIRST]) == (done.code, used(served), authority.good)
    assert f"the refresh token cannot be kept in {tokens(project)}: File too large" in done.said
    assert [] == [path.name for path in tokens(project).iterdir() if path.suffix == ".new"]
    assert 0 == pull(project).code


def test_a_disk_that_fails_with_the_answer_in_hand_says_what_is_lost(
    authority: Authority, served: Serving, project: Project
) -> None:
    authority.after = lambda: tokens(project).rename(tokens(project).with_name("gone"))
    done = pull(project)
    assert (6, 0) == (done.code, authority.pages)
    assert "the new refresh token could not be saved in " in done.said
    assert "the old one is used up: log in again and set SHOP_REFRESH to the new one" in done.said
    assert str(authority.tokens[-1].refresh) not in done.said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_costs_no_token(
    authority: Authority, served: Serving, project: Project
) -> None:
    tokens(project).parent.mkdir()
    tokens(project).parent.chmod(0o500)
    done = pull(project)
    assert (6, []) == (done.code, used(served))


def test_a_file_where_the_directory_should_be_costs_no_token(
    authority: Authority, served: Serving, project: Project
) -> None:
    tokens(project).parent.mkdir()
    tokens(project).write_text("a file")
    done = pull(project)
    assert (6, []) == (done.code, used(served))
    assert f"the refresh token cannot be kept in {tokens(project)}: " in done.said
    assert "set SYNCER_STATE to another directory" in done.said


def test_without_a_home_the_state_has_to_be_named(
    authority: Authority, served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SYNCER_STATE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    asker = Asker(served.url, auth=style(served.url), environment=SECRETS)
    with pytest.raises(ConfigError, match="there is no place to keep the refresh token") as caught:
        asker.fetch()
    assert ("set SYNCER_STATE to a directory on a local disk", []) == (caught.value.hint, used(served))


# --- a damaged file ---

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "zeros": lambda path: path.write_bytes(bytes(200)),
    "no object": lambda path: path.write_bytes(b'["refresh_token"]'),
    "no token": lambda path: path.write_bytes(b'{"access_token": "x"}'),
    "a number": lambda path: path.write_bytes(b'{"refresh_token": 7}'),
    "an empty token": lambda path: path.write_bytes(b'{"refresh_token": ""}'),
    "a line end": lambda path: path.write_bytes(b'{"refresh_token": "a\\r\\nb"}'),
    "deep": lambda path: path.write_bytes(b"[" * 60_000),
    "large": lambda path: path.write_bytes(b'{"refresh_token": "%s"}' % (b"x" * 70_000)),
    "bytes": lambda path: path.write_bytes(b'{"refresh_token": "\xff"}'),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_token_is_not_replaced_by_an_older_one(
    authority: Authority, served: Serving, tmp_path: Path, how: str
) -> None:
    """The first one is used up, and some servers lock out whoever shows a used one."""
    state = {**SECRETS, "SYNCER_STATE": str(tmp_path)}
    Asker(served.url, auth=style(served.url), environment=state).fetch()
    (path,) = (tmp_path / "tokens").glob("*.json")
    DAMAGES[how](path)
    with pytest.raises(CredentialsError, match=r"the saved refresh token in \S+ is damaged") as caught:
        Asker(served.url, auth=style(served.url), environment=state).fetch()
    assert "log in again and set SHOP_REFRESH to the new one" in caught.value.hint
    assert [FIRST] == used(served)


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_token": 7},
        {"access_token": "a\r\nX-Evil: 1"},
        {"expires": "soon"},
        {"expires": 10**400},
        {"lasts": "long", "expires": None},
        {"expires": True},
        {"lasts": -1},
    ],
    ids=str,
)
def test_an_access_token_that_makes_no_sense_is_renewed_with_the_refresh_token_beside_it(
    authority: Authority, served: Serving, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    state = {**SECRETS, "SYNCER_STATE": str(tmp_path)}
    Asker(served.url, auth=style(served.url), environment=state).fetch()
    (path,) = (tmp_path / "tokens").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    authority.revoke()
    Asker(served.url, auth=style(served.url), environment=state).fetch()
    assert [FIRST, authority.tokens[1].refresh] == used(served)


@pytest.mark.parametrize("suffix", [".json", ".lock", ".new"])
def test_a_link_in_place_of_a_file_is_not_followed(
    authority: Authority, served: Serving, project: Project, suffix: str
) -> None:
    assert 0 == pull(project).code
    (path,) = tokens(project).glob("*.json")
    target = project.path / "precious"
    target.write_text("precious")
    path.unlink()
    path.with_suffix(suffix).unlink(missing_ok=True)
    path.with_suffix(suffix).symlink_to(target)
    authority.revoke()
    done = pull(project)
    assert (6, "precious", [FIRST]) == (done.code, target.read_text(), used(served))


def test_a_list_opens_no_file_and_asks_nobody(authority: Authority, served: Serving, project: Project) -> None:
    listed = project.run("list", "shop", env=SECRETS)
    assert "secret SHOP_REFRESH: set\n" in listed.stdout
    assert (False, []) == (tokens(project).exists(), used(served))


def test_a_check_keeps_the_token_that_it_was_given(authority: Authority, served: Serving, project: Project) -> None:
    """It writes no output, but a token that has been replaced is worth nothing any more."""
    assert 0 == project.run("check", "shop", env=SECRETS).code
    assert 0 == pull(project).code
    assert [FIRST] == used(served)
