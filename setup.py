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
    packages=find_packages(include=["enmap_sharpener", "enmap_sharpener.*"]),
    python_requires=f">={cfg['min_python']},<3.13", install_requires=cfg["requirements"].split(),
    extras_require={
        "dev": cfg["dev_requirements"].split(),
        "maps": ["folium>=0.15"],
        "batch": ["papermill>=2.6", "distributed>=2024.8", "ipykernel>=6", "dask-jobqueue>=0.9"],
        "explore": ["ipywidgets>=8", "ipyevents>=2", "jupyterlab>=4"],
        "docs": ["ipywidgets>=8", "ipyevents>=2", "sphinx>=8", "myst-nb>=1.3", "numpydoc>=1.8", "pydata-sphinx-theme>=0.16", "sphinx-design>=0.6", "latex2mathml>=3.77", "ziamath>=0.10", "keras>=3.6", "jax"],
        "cpu": ["tensorflow-cpu>=2.18", "keras>=3.6", "optuna>=4"],
        "gpu": ["tensorflow[and-cuda]>=2.18", "keras>=3.6", "optuna>=4"],
    },
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
    include_package_data=True, zip_safe=False, cmdclass={"build_py": BuildWithJobs},
)
