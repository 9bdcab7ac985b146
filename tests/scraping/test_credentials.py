"A `.env` that others could have written, or that leads a password elsewhere."
import os
from types import SimpleNamespace

import pytest

from enmap_sharpener.cli.scraping import environment
from enmap_sharpener.core.errors import DownloadError, LoginError
from enmap_sharpener.scraping.authentication import Authenticator
from enmap_sharpener.scraping.credentials import Login, join_variables, read_dotenv

ACCOUNT = {"ENMAP_USERNAME": "ada", "ENMAP_PASSWORD": "p%ss"}
AWAY = {"ENMAP_DOWNLOAD_URL": "https://evil.example", "ENMAP_SSO_URL": "https://sso.evil.example"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    "An empty folder to be in, in an environment without accounts."
    for name in {*ACCOUNT, *AWAY, "ENMAP_SESSION_TOKEN"}:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    return tmp_path / "in"


def write(path, variables, mode=0o600):
    path.write_text("".join(f"{k}='{v}'\n" for k, v in variables.items()))
    path.chmod(mode)
    return path


class Session:
    "Keeps what is said."

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def test_only_this_folder_counts(place):
    write(place.parent / ".env", ACCOUNT | AWAY)
    assert not {*ACCOUNT, *AWAY} & set(environment(Session()))
    write(place / ".env", ACCOUNT)
    assert ACCOUNT.items() <= environment(Session()).items()


def test_a_stranger_cannot_lead_a_password_away(place, monkeypatch):
    "The account is in the environment, as on a login node, and a .env in a common folder names another server."
    write(place / ".env", AWAY)
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    session = Session()
    assert not set(AWAY) & set(environment(session))
    assert len(session.lines) == 2 and all("is not used" in line for line in session.lines)
    assert not set(AWAY) & set(environment(Session(), session_token="token"))


def test_an_address_beside_its_account_counts_and_is_said(place):
    write(place / ".env", ACCOUNT | AWAY)
    session = Session()
    assert (ACCOUNT | AWAY).items() <= environment(session).items()
    assert session.lines == ["ENMAP_DOWNLOAD_URL is https://evil.example, as .env says", "ENMAP_SSO_URL is https://sso.evil.example, as .env says"]


@pytest.mark.parametrize("environment", [{"ENMAP_PASSWORD": "x"}, {"ENMAP_SESSION_TOKEN": "x"}, {"COPERNICUS_CLIENT_SECRET": "x"}], ids=str)
def test_half_an_account_elsewhere(environment):
    told = ACCOUNT | AWAY | {"COPERNICUS_CLIENT_ID": "id", "COPERNICUS_TOKEN_URL": "https://evil.example"}
    joined, _ = join_variables(environment, told)
    assert ("ENMAP_SSO_URL" in joined) == ("COPERNICUS_CLIENT_SECRET" in environment) != ("COPERNICUS_TOKEN_URL" in joined)


def test_this_machine_unencrypted_only_when_asked(place, monkeypatch):
    "A neighbour on the same machine may listen there."
    local = {"ENMAP_DOWNLOAD_URL": "http://127.0.0.1:8000"}
    write(place / ".env", ACCOUNT | local)
    session = Session()
    assert "ENMAP_DOWNLOAD_URL" not in environment(session) and "not encrypted" in session.lines[0]
    monkeypatch.setenv("ENMAP_DOWNLOAD_URL", local["ENMAP_DOWNLOAD_URL"])
    assert environment(Session())["ENMAP_DOWNLOAD_URL"] == local["ENMAP_DOWNLOAD_URL"]


@pytest.mark.parametrize(("host", "followed"), [("https://download.example", False), ("http://127.0.0.1:9", True)])
def test_no_redirect_to_this_machine(monkeypatch, host, followed):
    hosts, asked = Authenticator(Login("ada", "p"), host, host)._hosts, []

    def send(url, *rest):
        asked.append(str(url))
        if len(asked) > 1:
            raise ConnectionError
        return SimpleNamespace(is_redirect=True, headers={"location": "http://127.0.0.1:8000/a"}, close=lambda: None)

    monkeypatch.setattr(hosts, "_send", send)
    with pytest.raises(ConnectionError if followed else DownloadError):
        hosts.follow(f"{host}/a", hosts, {})
    assert len(asked) == 1 + followed


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664])
def test_what_others_may_write_is_refused(place, mode):
    with pytest.raises(LoginError, match="chmod 600"):
        read_dotenv(write(place / ".env", ACCOUNT, mode))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_what_is_somebody_elses_is_refused(place):
    os.chown(write(place / ".env", ACCOUNT), 12345, 12345)
    with pytest.raises(LoginError, match="others may have written it"):
        read_dotenv(".env")


def test_a_link_a_pipe_a_folder_and_no_text(place):
    write(place / "mine", ACCOUNT)
    (place / "link").symlink_to("mine")
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "binary").write_bytes(b"\xff\xfe")
    for name in ("link", "pipe", "folder", "binary"):
        with pytest.raises(LoginError, match="is not read"):
            read_dotenv(place / name)
    assert read_dotenv(place / "none") == {}
