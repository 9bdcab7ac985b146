"""Packaging; every value is read from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=["="], interpolation=None)
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
readme = here / "README.md"
LOWEST, HIGHEST = cfg["min_python"], int(cfg["max_python"].partition(".")[2])


def required(key: str) -> list[str]:
    "What a list of settings.ini names; `[name]` in it stands for the list `name_requirements`. Nothing twice."
    found = []
    for word in cfg[key].split():
        found += required(f"{word[1:-1]}_requirements") if word.startswith("[") else [word]
    return list(dict.fromkeys(found))


class BuildWithJobs(build_py):
    "The jobs, which are notebooks of the repository, go into the package; installed in place, they are found where they are."

    def run(self):
        super().run()
        if not self.editable_mode:
            for job in (here / "nbs/jobs").glob("*.ipynb"):
                place = Path(self.build_lib, cfg["lib_name"], "notebooks")
                self.mkpath(str(place))
                self.copy_file(str(job), str(place / job.name))


setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"], license="Apache-2.0", url=cfg["git_url"], keywords=cfg["keywords"].split(),
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"], "Changelog": cfg["git_url"] + "/blob/main/CHANGELOG.md", "Issues": cfg["git_url"] + "/issues"},
    classifiers=["Development Status :: 3 - Alpha", f"Intended Audience :: {cfg['audience']}", "Topic :: Scientific/Engineering :: GIS", "Typing :: Typed",
                 *(f"Programming Language :: Python :: 3.{minor}" for minor in range(int(LOWEST.partition(".")[2]), HIGHEST + 1))],
    packages=find_packages(include=["enmap_sharpener", "enmap_sharpener.*"]),
    python_requires=f">={LOWEST},<{LOWEST.partition('.')[0]}.{HIGHEST + 1}", install_requires=required("requirements"),
    extras_require={extra: required(f"{extra}_requirements") for extra in cfg["extras"].split()},
    package_data={cfg["lib_name"]: ["py.typed"]},
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
    include_package_data=True, zip_safe=False, cmdclass={"build_py": BuildWithJobs},
)
