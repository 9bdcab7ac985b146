"`demo`: a table in which the default method is best, and files that can be looked at."
import pytest

from enmap_sharpener.cli.app import main


@pytest.mark.slow
def test_demo(tmp_path, capfd):
    assert main(["demo", "--size", "30", "--output", str(tmp_path / "demo")]) == 0
    out, err = capfd.readouterr()
    rows = [line.split() for line in out.splitlines()]
    psnr = {row[0]: float(row[1]) for row in rows if row and row[0] in ("bilinear", "cubic", "unsharp", "subspace")}
    assert err.startswith("Simulating …\nSharpening (bilinear) …\n") and all(line.endswith(" …") for line in err.splitlines())      # a line for each step
    assert len(psnr) == 4 and max(psnr, key=psnr.get) == "subspace"
    assert all((tmp_path / "demo" / name).is_file() for name in ("sharpened.tif", "sharpened_quality.tif", "before_after.png", "comparison/cubic.tif"))
