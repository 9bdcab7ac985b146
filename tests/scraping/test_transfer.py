"Files over a bad network, behind a login: every fault ends in a file that is whole, or in one line that helps; no secret gets out."
import base64
import contextlib
import json
import logging
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_download import DownloadSite, SignOn, Stranger

from enmap_sharpener.core.errors import DownloadError, LoginError, NoPermission, NotFound, OutputError, ProductError
from enmap_sharpener.scraping import transfer
from enmap_sharpener.scraping.credentials import Login, Page
from enmap_sharpener.scraping.transfer import Client, FileRecord

ADA = Login("ada", "p%ss:wörd")
BODY = np.random.default_rng(0).bytes(300_001)
PATH = "/ENMAP/files/a.bin"


@contextlib.contextmanager
def world(login=ADA, sso=None, client=None, **settings):
    "A download server with its sign-on, and a client for both."
    with SignOn(**(sso or {})) as sign_on, DownloadSite({PATH: BODY, "/b.bin": BODY[::-1]}, sign_on, **settings) as site:
        options = dict(host=site.url, sso=sign_on.url, pause=0.01, timeout=0.6) | (client or {})
        with Client(login, **options) as made:
            yield site, sign_on, made


def get(site, client, folder, path=PATH, **options):
    "Fetch a file and see that it is right and alone."
    record = client.fetch(site.href(path), folder / "a.bin", **options)
    assert (folder / "a.bin").read_bytes() == site.files[path]
    assert [p.name for p in folder.iterdir()] == ["a.bin"]
    assert record == FileRecord.of(folder / "a.bin")


def authorised(server):
    "How many requests brought a name and password."
    return sum("authorization" in r.headers for r in server.log)


# ---- the ways in

def test_basic(tmp_path):
    with world() as (site, sso, client):
        get(site, client, tmp_path)
        assert len(site.log) == 1 and not sso.log


@pytest.mark.parametrize("settings", [dict(basic="refuse"), dict(basic="ignore"), dict(basic="ignore", wall="page")], ids=str)
@pytest.mark.parametrize("action", ["login", "", "/eoc/auth/login"])
def test_form(tmp_path, settings, action):
    with world(sso=dict(action=action), **settings) as (site, sso, client):
        get(site, client, tmp_path)
        get(site, client, tmp_path, "/b.bin")
        assert sso.logins == 1 and sso.accepted == 0 and not authorised(sso)
        [post] = [r for r in sso.log if r.method == "POST"]
        assert b"client_name" not in post.body and b"delegated" not in post.body


@pytest.mark.parametrize("paste", ["{}", "session={}", "Cookie: a=1; session={}; b=2", '"{}"'])
def test_cookie(tmp_path, paste):
    with world(Login()) as (site, sso, _):
        login = Login.find({"ENMAP_SESSION_TOKEN": paste.format(site.session())})
        with Client(login, host=site.url, sso=sso.url) as client:
            get(site, client, tmp_path)
            assert not any("cookie" in r.headers and "eyJ" in r.headers["cookie"] for r in sso.log)


def test_cookie_after_the_form_was_refused(tmp_path):
    with world(basic="refuse") as (site, sso, _):
        with Client(Login("eo-lab", "other", site.session()), host=site.url, sso=sso.url) as client:
            get(site, client, tmp_path)
        assert sso.failures == 1


def test_public(tmp_path):
    with world(Login(), public=True) as (site, _, client):
        get(site, client, tmp_path)


def test_session_ends_in_the_middle(tmp_path):
    with world(basic="ignore", lasts=3) as (site, sso, client):
        site.faults[PATH] = ["cut"] * 9
        get(site, client, tmp_path)
        assert sso.logins >= 3 and max(site.twice().values()) <= 8      # asking whether a login helped costs one byte


def test_sign_on_remembers(tmp_path):
    "A session that ended is renewed without the form where the sign-on still knows us."
    with world(basic="ignore", lasts=3, sso=dict(remembers=True)) as (site, sso, client):
        site.faults[PATH] = ["cut"] * 9
        get(site, client, tmp_path)
        assert sum(r.method == "POST" for r in sso.log) == 1


def test_many_threads_log_in_once(tmp_path):
    with world(basic="ignore") as (site, sso, client), ThreadPoolExecutor(8) as pool:
        site.files |= {f"/{i}.bin": BODY[:1000 + i] for i in range(16)}
        sizes = pool.map(lambda i: client.fetch(site.href(f"/{i}.bin"), tmp_path / f"{i}.bin").size, range(16))
        assert list(sizes) == [1000 + i for i in range(16)] and sso.logins == 1


# ---- not let in

REFUSED = {
    "none given": (dict(login=Login()), "ENMAP_USERNAME"),
    "wrong password": (dict(login=Login("ada", "wrong"), basic="refuse"), "not the e-mail address"),
    "permission missing": (dict(basic="refuse"), "EnMAP Access Service"),
    "usage policy": (dict(basic="ignore", sso=dict(policy=True)), "accept it there"),
    "cookie expired": (dict(login=Login(session_token="eyJold")), "lasts some hours"),
    "unknown page": (dict(basic="ignore", sso=dict(action="https://elsewhere.example/login")), "elsewhere.example"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    settings, wanted = REFUSED[case]
    with world(**settings) as (site, sso, client):
        site.allowed = case != "permission missing"
        for _ in range(3):
            with pytest.raises(LoginError, match=wanted) as error:
                client.fetch(site.href(PATH), tmp_path / "a.bin")
            assert "\n" not in str(error.value)
        assert sso.failures <= 1, "a wrong password is not tried again"
        assert sso.accepted == 0
        assert list(tmp_path.iterdir()) == []


def test_one_file_refused_to_all(tmp_path):
    "Status 403 after a login that worked is no reason to log in for ever."
    with world(basic="ignore") as (site, sso, client):
        get(site, client, tmp_path)
        site.faults["/b.bin"] = [403] * 500
        for _ in range(9):
            with pytest.raises(NoPermission, match="no permission for it"):
                client.fetch(site.href("/b.bin"), tmp_path / "b.bin")
        assert sso.logins < 6
        get(site, client, tmp_path)


def test_half_a_login():
    with pytest.raises(LoginError, match="both"):
        Login.find({"ENMAP_PASSWORD": "x"})


def test_netrc(tmp_path):
    path = tmp_path / ".netrc"
    path.write_text("machine download.geoservice.dlr.de login ada password s3cret\nmachine other.example login x password y\n")
    assert Login.find({}, path) == Login("ada", "s3cret")
    assert Login.find({}, path, "https://unknown.example") == Login()
    assert Login.find({"ENMAP_USERNAME": "eve", "ENMAP_PASSWORD": "e"}, path).username == "eve"
    assert Login.find({}, tmp_path / "none") == Login()
    path.write_text("machine a login ada s3cret-without-keyword\n")
    with pytest.raises(LoginError) as error:
        Login.find({}, path)
    assert "s3cret" not in "".join(traceback.format_exception(error.value)).replace("s3cret-without-keyword\\n", "")


@pytest.mark.parametrize("token", ["a\nb", "a\r\nSet: b", "zwölf", "a b", 'x";y', "a,b"])
def test_tokens_that_are_none(token):
    with pytest.raises(LoginError) as error:
        Login.find({"ENMAP_SESSION_TOKEN": token})
    assert token not in str(error.value)


def test_http_is_refused():
    with pytest.raises(LoginError, match="https"):
        Client(ADA, host="http://download.geoservice.dlr.de")


# ---- faults of the network

FAULTS = ["cut", "stall", "reset", "html", "plain html", "range error", 500, 502, 503, 504, "429 in 0", "429 in 0.2", "no ranges"]


@pytest.mark.parametrize("basic", ["accept", "ignore"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass(tmp_path, fault, basic):
    with world(basic=basic) as (site, _, client):
        site.faults[PATH] = ["cut", fault, fault, "cut"]
        get(site, client, tmp_path)


@pytest.mark.parametrize("fault,told", [(503, "status 503"), ("html", "web page"), ("cut", "ProtocolError|IncompleteRead"), ("429 in 0", "status 429")])
def test_faults_that_stay(tmp_path, fault, told):
    with world(client=dict(tries=3)) as (site, _, client):
        site.faults[PATH] = [fault] * 500
        if fault == "cut":
            site.files[PATH] = b"x"        # no progress is possible
        with pytest.raises(DownloadError, match=told) as error:
            client.fetch(site.href(PATH), tmp_path / "a.bin")
        assert "again later" in str(error.value) and not isinstance(error.value, LoginError)
        assert len(site.log) == 3


def test_progress_renews_the_tries(tmp_path):
    with world(client=dict(tries=2)) as (site, _, client):
        site.faults[PATH] = ["cut"] * 12
        get(site, client, tmp_path)
        assert max(site.twice().values()) == 0


@pytest.mark.parametrize("version", ["etag", "modified", "weak", "none"])
def test_resumes_where_it_was(tmp_path, version):
    with world(version=version) as (site, _, client):
        site.faults[PATH] = ["cut"]
        get(site, client, tmp_path)
        assert site.log[1].headers["range"] == f"bytes={len(BODY) // 2}-" and max(site.twice().values()) == 0


@pytest.mark.parametrize("version", ["etag", "none"])
def test_another_version_is_not_mixed(tmp_path, version):
    "A file that changes on the server between two attempts is fetched anew."
    with world(version=version) as (site, _, client):
        site.faults[PATH] = ["cut", 404]
        with pytest.raises(NotFound):
            client.fetch(site.href(PATH), tmp_path / "a.bin")
        assert (tmp_path / "a.bin.part").stat().st_size == len(BODY) // 2
        site.files[PATH] = BODY[::-1] + b"longer"
        get(site, client, tmp_path)


@pytest.mark.parametrize("version", ["etag", "modified", "weak"])
@pytest.mark.parametrize("told_length", [True, False])
def test_a_version_of_the_same_length_is_not_mixed(tmp_path, monkeypatch, version, told_length):
    "A server that does not heed If-Range sends the rest of what it has now, as part of what was begun."
    with world(version=version) as (site, _, client):
        site.heeds_if_range, site.told_length = False, told_length
        site.faults[PATH] = ["cut", 404]
        with pytest.raises(NotFound):
            client.fetch(site.href(PATH), tmp_path / "a.bin")
        site.files[PATH] = BODY[::-1]
        monkeypatch.setattr("fake_download.STAMP", "Tue, 24 Oct 2023 10:00:00 GMT")
        get(site, client, tmp_path)


@pytest.mark.parametrize("version", ["etag", "modified", "weak"])
def test_a_part_of_a_file_of_unknown_length_goes_on(tmp_path, version):
    with world(version=version) as (site, _, client):
        site.told_length = False
        site.faults[PATH] = ["cut"]
        get(site, client, tmp_path)
        assert max(site.twice().values()) == 0


def test_rest_that_lies_about_its_place(tmp_path):
    with world() as (site, _, client):
        (tmp_path / "a.bin.part").write_bytes(BODY[:1000])
        (tmp_path / "a.bin.part.json").write_text('{"url": "')          # killed while it was written
        get(site, client, tmp_path)
        assert "range" not in site.log[0].headers


@pytest.mark.parametrize("names", [["a.bin.part"], ["a.bin.part", "a.bin.part.json"]])
def test_what_is_begun_follows_no_links(tmp_path, names):
    "A folder from others may hold links under the names that a download takes; what they lead to is left alone."
    place, mine = tmp_path / "received", {name: tmp_path / f"my {name}" for name in names}
    place.mkdir()
    with world() as (site, _, client):
        note = json.dumps({"url": site.href(PATH), "total": len(BODY), "version": "x", "marks": {}})
        contents = {"a.bin.part": "my own text", "a.bin.part.json": note}
        (place / "a.bin.part.json").write_text(note)
        for name, path in mine.items():
            path.write_text(contents[name])
            (place / name).unlink(missing_ok=True)
            (place / name).symlink_to(path)
        get(site, client, place)
        assert {name: path.read_text() for name, path in mine.items()} == {name: contents[name] for name in names}


@pytest.mark.parametrize("name", ["blocks", "blocks.json"])
def test_blocks_follow_no_links(tmp_path, name):
    (tmp_path / "mine").write_text("my own text")
    (tmp_path / name).symlink_to(tmp_path / "mine")
    with world() as (site, _, client), client.open(site.href(PATH), tmp_path / "blocks") as file:
        assert file.read(100) == BODY[:100] and (tmp_path / "mine").read_text() == "my own text"


@pytest.mark.parametrize("start", ["<!--" + "--><!--" * 9000, "<!-- --> " * 7000, "<?xml" * 9000, " " * 60_000 + "<", "<" * 60_000, "<![" * 9000], ids=lambda s: s[:9])
def test_what_only_looks_like_a_page_does_not_hold_it_up(tmp_path, start):
    "An expression for comments took twice as long with each of them."
    body = start.encode()
    with world() as (site, _, client):
        site.files[PATH] = body
        begin = time.monotonic()
        client.fetch(site.href(PATH), tmp_path / "a.bin")
        assert time.monotonic() - begin < 5 and (tmp_path / "a.bin").read_bytes() == body


@pytest.mark.parametrize("text", ["<", "<a ", "<![", "<title>", "<!-- -->", "<input type=password name=p><![x"], ids=str)
def test_a_hostile_login_page_is_read_in_time(text):
    begin = time.monotonic()
    Page(text * ((1 << 18) // len(text)))
    assert time.monotonic() - begin < 10


def test_whole_before_it_was_named(tmp_path):
    "Killed between the last byte and the renaming: not one request is needed."
    with world() as (site, _, client):
        (tmp_path / "a.bin.part").write_bytes(BODY)
        (tmp_path / "a.bin.part.json").write_text(json.dumps({"url": site.href(PATH), "total": len(BODY), "version": "x", "marks": {}}))
        get(site, client, tmp_path)
        assert not site.log


@pytest.mark.parametrize("fault,least", [("429 in 1", 1.0), ("429 at date", 0.9)])
def test_retry_after_is_obeyed_by_all(tmp_path, fault, least):
    with world() as (site, _, client), ThreadPoolExecutor(3) as pool:
        site.faults[PATH] = [fault]
        start = time.monotonic()
        jobs = [pool.submit(client.fetch, site.href(PATH), tmp_path / "a.bin")]
        while not site.log:
            time.sleep(0.01)
        time.sleep(0.1)
        jobs += [pool.submit(client.fetch, site.href("/b.bin"), tmp_path / "b.bin")]
        [job.result() for job in jobs]
        assert time.monotonic() - start >= least and len(site.log) == 3
        assert not (tmp_path / "b.bin").exists() or time.monotonic() - start >= least


def test_retry_after_beyond_patience(tmp_path):
    with world(client=dict(patience=5)) as (site, _, client):
        site.faults[PATH] = ["429 in 86400"]
        with pytest.raises(DownloadError, match="left alone for 24.0 h .status 429.; start again at 20"):
            client.fetch(site.href(PATH), tmp_path / "a.bin")


def test_not_found(tmp_path):
    with world() as (site, _, client), pytest.raises(NotFound, match="404"):
        client.fetch(site.href("/none.bin"), tmp_path / "a.bin")


def test_nobody_there(tmp_path):
    with world() as (site, _, _):
        url = site.url
    with Client(ADA, host=url, sso=url, pause=0.01, tries=2) as client, pytest.raises(DownloadError, match="no answer, NewConnectionError"):
        client.fetch(url + PATH, tmp_path / "a.bin")


@pytest.mark.parametrize("times", [1, 2])
def test_check(tmp_path, times):
    "A file that is no good is fetched once more; twice is enough."
    def check(path):
        if not any(path.read_bytes()):
            raise ProductError(f"{path.name}: is damaged.")
    with world() as (site, _, client):
        site.faults[PATH] = ["damaged"] * times
        if times == 1:
            return get(site, client, tmp_path, check=check)
        with pytest.raises(DownloadError, match="a.bin: is damaged"):
            client.fetch(site.href(PATH), tmp_path / "a.bin", check)
        assert list(tmp_path.iterdir()) == []


def test_sign_on_out_of_order(tmp_path):
    with world(basic="ignore", sso=dict(outage=2)) as (site, sso, client):
        get(site, client, tmp_path)
        assert sso.logins == 1


def test_disk(tmp_path, monkeypatch):
    with world() as (site, _, client):
        with pytest.raises(OutputError, match="No such file"):
            client.fetch(site.href(PATH), tmp_path / "none" / "a.bin")
        monkeypatch.setattr(transfer.os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OutputError, match="No space left"):
            client.fetch(site.href(PATH), tmp_path / "a.bin")


def test_close_stops_other_threads(tmp_path):
    with world(pace=(1000, 0.01), client=dict(timeout=30)) as (site, _, client), ThreadPoolExecutor(2) as pool:
        site.faults["/b.bin"] = ["stall"]
        jobs = [pool.submit(client.fetch, site.href(p), tmp_path / p[-5:]) for p in (PATH, "/b.bin")]
        while len(site.sent) < 2:
            time.sleep(0.01)
        start = time.monotonic()
        client.close()
        for job in jobs:
            with pytest.raises(DownloadError):
                job.result()
        assert time.monotonic() - start < 1


def test_progress(tmp_path):
    seen = []
    with world() as (site, _, client):
        site.faults[PATH] = ["cut"]
        get(site, client, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (len(BODY), len(BODY))


# ---- reading in place

def test_size_and_reading_in_place():
    with world(basic="ignore") as (site, _, client):
        assert client.size(site.href(PATH)) == len(BODY)
        site.faults[PATH] = [503, "cut", "html"]
        with client.open(site.href(PATH)) as file:
            rng = np.random.default_rng(1)
            for start, size in rng.integers(0, len(BODY), (40, 2)):
                file.seek(start)
                assert file.read(size) == BODY[start:start + size] and file.tell() == min(start + size, len(BODY))
            assert file.seek(-5, 2) == len(BODY) - 5 and file.read() == BODY[-5:] and file.read(9) == b""
            assert file.fetched <= len(BODY) and file.error is None


def test_reading_in_place_needs_ranges():
    with world() as (site, _, client):
        site.faults[PATH] = ["no ranges"]
        with pytest.raises(DownloadError, match="in parts"):
            client.open(site.href(PATH))


def test_reading_in_place_notices_a_new_version():
    with world() as (site, _, client), client.open(site.href(PATH)) as file:
        site.files[PATH] = BODY[::-1]
        file.seek(200_000)
        assert file.read(10) == b"" and "changed" in str(file.error)


# ---- where credentials go

@pytest.mark.parametrize("basic", ["accept", "ignore"])
def test_strangers_get_nothing(tmp_path, basic, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login ada password s3cret\n")
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    with world(basic=basic) as (site, _, client), Stranger({PATH: BODY}) as stranger:
        site.elsewhere, site.faults[PATH] = stranger.url, ["elsewhere", "elsewhere"]
        (tmp_path / "x").mkdir()
        get(site, client, tmp_path / "x")
        get(site, client, tmp_path / "x")
        assert len(stranger.log) == 2 and stranger.told() == []
        site.faults["/b.bin"] = ["elsewhere"] * 5
        with pytest.raises(DownloadError, match="refused") as error:
            client.fetch(site.href("/b.bin"), tmp_path / "b.bin")
        assert not isinstance(error.value, LoginError) and stranger.told() == []
        with pytest.raises(DownloadError):
            client.fetch(stranger.url + "/other", tmp_path / "b.bin")
        assert stranger.told() == []


def test_plain_http_is_not_followed(tmp_path):
    with world() as (site, _, client):
        site.elsewhere, site.faults[PATH] = "http://storage.example", ["elsewhere"]
        with pytest.raises(DownloadError, match="without encryption"):
            client.fetch(site.href(PATH), tmp_path / "a.bin")


def test_sign_on_elsewhere_gets_nothing(tmp_path):
    "A login page at a host that is not the sign-on: perhaps an attack, perhaps a new address; a person has to look."
    with SignOn() as other, world(basic="ignore") as (site, sso, client):
        site.sso = other
        with pytest.raises(DownloadError):
            client.fetch(site.href(PATH), tmp_path / "a.bin")
        assert all(r.method == "GET" and "authorization" not in r.headers for r in other.log) and not sso.log


SCENARIOS = {
    "basic": dict(), "form": dict(basic="refuse"), "renewed": dict(basic="ignore", lasts=3), "policy": dict(basic="ignore", sso=dict(policy=True)),
    "wrong": dict(login=Login("ada", "p%ss:wörd-wrong"), basic="refuse"), "outage": dict(basic="ignore", sso=dict(outage=99)),
    "remembers": dict(basic="ignore", lasts=2, sso=dict(remembers=True)), "cookie": dict(login=Login(session_token="eyJold-and-s3cret")),
}


@pytest.mark.parametrize("case", SCENARIOS)
def test_no_secret_gets_out(tmp_path, case, caplog, capfd):
    for name in ("", "urllib3", "urllib3.connectionpool", "requests", "enmap_sharpener"):
        caplog.set_level(logging.DEBUG, name)
    settings = SCENARIOS[case]
    login = settings.get("login", ADA)
    with world(client=dict(tries=3), **settings) as (site, sso, client):
        site.faults[PATH] = ["cut", 503, "reset", "cut", 404]
        said = [repr(client), repr(login), str(login), repr(client._authenticator._way), repr(vars(client))]
        for path in (PATH, "/b.bin", "/none.bin"):
            try:
                client.fetch(site.href(path), tmp_path / "a.bin", progress=lambda *a, said=said: said.append(repr(a)))
            except DownloadError as error:
                said += traceback.format_exception(error)
                said += traceback.TracebackException.from_exception(error, capture_locals=True).format()
                assert error.__context__ is None and error.__cause__ is None
        said += [caplog.text, *capfd.readouterr(), *(p.read_text("latin1") for p in tmp_path.glob("*.json"))]
        pair = f"{login.username}:{login.password}".encode()
        secrets = {login.password, login.session_token, base64.b64encode(pair).decode(), *site.sessions, *sso.issued} - {None}
    text = "\n".join(said)
    assert '"GET /' in text and len(secrets) > 1, "the log is there, and there is something to find"
    for secret in secrets:
        assert secret not in text and secret.replace("%", "%25") not in text


def test_threads_stop_at_the_first_refusal(tmp_path):
    "Eight threads with a wrong password knock once."
    with world(Login("ada", "wrong"), basic="refuse") as (site, sso, client), ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)
        def one(i):
            barrier.wait()
            with pytest.raises(LoginError):
                client.fetch(site.href(PATH), tmp_path / f"{i}.bin")
        list(pool.map(one, range(8)))
        assert sso.failures == 1
