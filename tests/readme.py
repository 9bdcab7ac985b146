"README.md, made from nbs/index.ipynb: run as a script it writes the file; a test checks that it is up to date."
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def render() -> str:
    "The notebook as Markdown, with links that hold in the repository's root."
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(ROOT / "nbs/index.ipynb")
    assert not resources["outputs"], "pictures in README belong into output/figures, not into the notebook"
    text = re.sub(r"\]\((?!\.\./|[a-z]+:|#)", "](nbs/", text)
    return text.replace("](../", "](").strip() + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(render(), encoding="utf-8")
