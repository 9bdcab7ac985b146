"`simulate`: what it writes, and that nothing is lost."
from enmap_sharpener.cli.app import main
from enmap_sharpener.scenes.enmap import read_enmap


def test_what_it_writes(tmp_path, capfd):
    folder = tmp_path / "simulated"
    assert main(["simulate", "--output", str(folder), "--size", "12", "--seed", "3"]) == 0
    out, err = capfd.readouterr()
    scene, = folder.glob("ENMAP01-*")
    assert out == err == "" and (folder / "truth.tif").is_file() and read_enmap(scene).cube.shape[1:] == (12, 12)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["simulate", "--output", str(folder), "--size", "12"]) == 2
    assert "exists already" in capfd.readouterr().err and before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
